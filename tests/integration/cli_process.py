"""Running the command line: in this process where that is enough, else as the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import graviton.sync

__all__ = [
    "MIB",
    "Cli",
    "Outcome",
    "children_env",
    "damage",
    "ended",
    "listed",
    "start",
    "stored",
    "temporary_files",
    "wait_for",
]

MIB = 1024 * 1024

COMMAND = (sys.executable, "-m", "graviton.cli.main")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Standard output as one JSON object per line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def ids(self) -> list[str]:
        """The ids that a put printed."""
        return [line.split("  ")[0] for line in self.out.splitlines()]


class Cli:
    """Commands on the store `root`, in this process."""

    def __init__(self, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capfd = capfd

    def __call__(self, *args: str | os.PathLike[str]) -> Outcome:
        from graviton.cli.app import run

        self._capfd.readouterr()
        code = run(["--root", str(self.root), *map(os.fspath, args)])
        out, err = self._capfd.readouterr()
        return Outcome(code, out, err)


def children_env() -> dict[str, str]:
    """This environment without settings of a store."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GRAVITON_") or "KERNEL" in name}


def start(root: Path, *args: str | os.PathLike[str], **options: Any) -> subprocess.Popen[bytes]:
    """A real process. It gets SIGINT as from a terminal, even if this one ignores it."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command: Sequence[str] = [*COMMAND, *map(os.fspath, args)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what is ignored here would be ignored there
    try:
        return subprocess.Popen(command, env=children_env() | {"GRAVITON_FS_ROOT": str(root)}, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Wait for a process; its exit code, standard output and standard error."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


def stored(root: Path, source: Path | bytes) -> str:
    """The id of `source`, put by this process, which is faster."""
    with graviton.sync.open(root) as store:
        return store.put(source).id


def listed(root: Path) -> list[str]:
    """The ids of all blobs, asked by this process."""
    with graviton.sync.open(root) as store:
        return [found.key.text for found in store.list()]


def temporary_files(folder: Path) -> list[str]:
    """Names below `folder` of files that are not finished."""
    return [name for _, _, names in os.walk(folder) for name in names if ".tmp" in name]


def damage(root: Path, blob: str) -> None:
    """Flip one bit in the one block of `blob`, or in the block of that key."""
    algo, digest, size = blob.split(":")
    block = root / "cas/blocks" / algo / f"{digest}-{size}"
    os.chmod(block, 0o600)
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 1
    block.write_bytes(data)
