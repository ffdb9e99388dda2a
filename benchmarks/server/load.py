"""Load from outside: curl for large bodies, wrk for many small requests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.process import plain_env, run

__all__ = ["Background", "Small", "background", "download", "many", "small_requests", "upload", "wrk"]

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_PERCENT_99 = re.compile(r"99%\s+([0-9.]+)(us|ms|s)")
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_FAILED = re.compile(r"(Non-2xx or 3xx responses: \d+|Socket errors: .*)")


class Small(NamedTuple):
    """What wrk saw."""

    per_second: float
    p99_seconds: float


def wrk() -> str | None:
    """Where wrk is, which Debian has as a package."""
    return shutil.which("wrk")


def small_requests(url: str, connections: int, seconds: int, script: Path | None = None) -> Small:
    """Many small requests, as many at once as there are connections. Raises OSError unless all of them went well."""
    command = [wrk() or "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if script is not None:
        command += ["-s", str(script)]
    text = run([*command, url]).output
    rate, late, failed = _RATE.search(text), _PERCENT_99.search(text), _FAILED.search(text)
    if failed is not None or rate is None or late is None:
        raise OSError(f"wrk: {failed[0] if failed else text[-200:]}")
    return Small(float(rate[1]), float(late[1]) * _UNITS[late[2]])


def upload(url: str, file: Path) -> tuple[float, str]:
    """POST a file; seconds, and the id of the blob."""
    done = run(["curl", "-sSf", "-X", "POST", "-T", file, f"{url}/api/blobs"])
    return done.wall_seconds, done.output.strip().strip('"')


def download(url: str) -> float:
    """GET something to nowhere; seconds."""
    return run(["curl", "-sSf", "-o", "/dev/null", url]).wall_seconds


def many(commands: Sequence[str]) -> None:
    """Run shell commands side by side, to their ends. Raises OSError if one fails."""
    running = [subprocess.Popen(["bash", "-o", "pipefail", "-c", one], env=plain_env()) for one in commands]
    try:
        failed = [process.args for process in running if process.wait() != 0]
    except BaseException:
        for process in running:
            process.kill()
        raise
    if failed:
        print(failed[0], file=sys.stderr)
        raise OSError(f"{len(failed)} of {len(running)} transfers failed")


class Background:
    """Shell commands that go on while something else is measured."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._running = [
            subprocess.Popen(["bash", "-o", "pipefail", "-c", one], env=plain_env(), start_new_session=True)
            for one in commands
        ]

    def check_running(self) -> None:
        """Raise OSError if one has ended: the other measurement was not made beside all of them."""
        if any(process.poll() is not None for process in self._running):
            raise OSError("an upload ended before the measurement did")

    def stop(self) -> None:
        """End them all."""
        for process in self._running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def background(commands: Sequence[str]) -> Iterator[Background]:
    """Commands that run inside of the block, and are killed after it."""
    found = Background(commands)
    try:
        yield found
    finally:
        found.stop()
