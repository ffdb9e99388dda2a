"""A whole process, measured from outside: wall time, CPU time, peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["CommandError", "Finished", "plain_env", "run", "shown"]

TIMEOUT_SECONDS = 900.0
"""Longer than any single run here takes on a slow machine; a hang must not hold up everything."""


class CommandError(Exception):
    """A measured command did not end well."""


class Finished(NamedTuple):
    """What one run of a command took."""

    wall_seconds: float
    cpu_seconds: float
    """User and system time of the process and of all children it waited for."""
    peak_rss_bytes: int
    """Peak resident memory of the largest process of the tree. The kernel counts what the process inherited from its
    parent before exec, so this is never below the memory of the harness itself (about 25 MiB)."""
    output: str
    """What it wrote to its standard output."""


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Path | None = None,
) -> Finished:
    """Run `command` to its end and measure it. Raises CommandError.

    Output goes to files, not pipes: a reader on the other end would take time on the same cores.
    """
    words = [str(word) for word in command]
    env = plain_env() if env is None else env
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        open(stdin or os.devnull, "rb") as source,
    ):
        begin = time.perf_counter()
        # A group of its own, so that a run that is stopped takes its children along.
        process = subprocess.Popen(
            words, cwd=cwd, env=env, stdin=source, stdout=out, stderr=err, start_new_session=True
        )
        status, usage = _wait(process)
        wall = time.perf_counter() - begin
        if status:
            err.seek(0)
            tail = err.read()[-2000:].decode(errors="replace").strip()
            raise CommandError(f"{shown(words)} ended with {status}: {tail}")
        out.seek(0)
        output = out.read().decode(errors="replace")
    return Finished(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, os.struct_rusage]:  # type: ignore[name-defined]
    """Exit status and resource usage; the whole group is killed when it takes too long or we are interrupted."""
    timer = threading.Timer(TIMEOUT_SECONDS, _kill, [process.pid])
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        _kill(process.pid)
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def plain_env() -> dict[str, str]:
    """This process's environment without what would change ours or Python's behaviour.

    PYTHONDONTWRITEBYTECODE above all, which containers set: in a fresh checkout every process would compile everything.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(("GRAVITON_", "PYTHON"))}


def shown(command: Sequence[str | Path]) -> str:
    """A command for people: programs and files by their last name."""
    return " ".join(Path(word).name if str(word).startswith("/") else str(word) for word in command)
