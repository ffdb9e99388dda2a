"""The two servers that are measured: ours, and the same framework with nothing behind it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.process import plain_env
from benchmarks.harness.section import graviton_command, graviton_env

__all__ = ["Running", "framework", "ours", "peak_bytes"]

_STOP_SECONDS = 60.0


class Running(NamedTuple):
    """A server that answers."""

    url: str
    pid: int


@contextmanager
def ours(root: Path) -> Iterator[Running]:
    """`graviton serve` on the store at `root`, with its defaults."""
    with _started([str(graviton_command()), "--json", "serve", "--port", "0"], graviton_env(root)) as running:
        yield running


@contextmanager
def framework(size: int, folder: Path) -> Iterator[Running]:
    """The same framework with nothing of ours behind it; see framework.py."""
    command = [sys.executable, "-m", "benchmarks.server.framework", str(size), str(folder)]
    with _started(command, plain_env()) as running:
        yield running


@contextmanager
def _started(command: Sequence[str], env: dict[str, str]) -> Iterator[Running]:
    """A server that tells its address by its first line, `{"listening": …}`. It writes its log, to a file."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise OSError(f"{command[0]} did not start")
            yield Running(json.loads(line)["listening"], process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def peak_bytes(pid: int) -> int:
    """The largest resident size that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} has no memory")
