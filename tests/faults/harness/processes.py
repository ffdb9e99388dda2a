"""Cases in real processes: a server, with the shim preloaded and everything imported, forks one process per case.

A case costs some milliseconds that way instead of the start of an interpreter. Nothing is open and no thread runs in
the server when it forks. What a case says goes through a pipe line by line, so it counts even if the case is killed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.harness.shim import Act, Arm, Calls

CASE_SECONDS = 60.0
"""A case takes well below a second; more than this is a hang."""


class Outcome(NamedTuple):
    """How a case ended."""

    signal: int
    """What killed it, 0 if it ended by itself."""
    said: list[tuple[str, str]]
    """What it said, in order."""
    hung: bool = False

    def of(self, verb: str) -> list[str]:
        """The subjects of everything said under `verb`."""
        return [subject for said, subject in self.said if said == verb]

    @property
    def calls(self) -> int:
        """Calls that counted; only told by cases that live to tell."""
        return int(self.of("calls")[0])

    @property
    def reached(self) -> bool:
        """Whether the call to be failed was reached; only told by cases that live to tell."""
        return self.of("hits") != ["0"]


class Children:
    """The server from the tests' side. Close it."""

    def __init__(self, shim: Path) -> None:
        environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join(sys.path)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.harness.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[3],
        )

    def run(self, job: str, arm: Arm = Arm(), kill_after: float = 0.0, **arguments: Any) -> Outcome:
        """Run `job` (a function of server.py) in a new process; `kill_after` seconds SIGKILL it."""
        request = {"job": job, "arm": arm._asdict(), "kill_after": kill_after, "arguments": arguments}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request, default=str).encode() + b"\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return Outcome(answer["signal"], [tuple(one) for one in answer["said"]], answer["hung"])

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(10)
        assert self._server.stdout is not None
        self._server.stdout.close()


def stay_on_one_cpu() -> None:
    """For what looks at a store while nobody else does anything: threads that hand each other small pieces of work take
    a third less time then. Not for what is broken: there the order of things shall differ."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def decode_arm(fields: dict[str, Any]) -> Arm:
    """An `Arm` from its JSON."""
    return Arm(Act(fields["act"]), fields["n"], fields["errno"], Calls(fields["calls"]), fields["log"])


def fork_case(run: Any, kill_after: float) -> dict[str, Any]:
    """In the server: `run(pipe)` in a new process, everything it wrote into the pipe, and how it ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = 1
        try:
            run(writing)
            status = 0
        finally:
            os._exit(status)  # no exit handlers, no buffers: they belong to the server
    os.close(writing)
    text, hung = _gather(reading, pid, kill_after)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    said = [json.loads(line) for line in text.splitlines() if line.endswith(b"]")]
    return {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "said": said, "hung": hung}


def _gather(reading: int, pid: int, kill_after: float) -> tuple[bytes, bool]:
    deadline = time.monotonic() + (kill_after or CASE_SECONDS)
    pieces = []
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGABRT if not kill_after else signal.SIGKILL)
            rest = b"".join(iter(lambda: os.read(reading, 65536), b""))
            return b"".join([*pieces, rest]), not kill_after
        piece = os.read(reading, 65536)
        if not piece:
            return b"".join(pieces), False
        pieces.append(piece)
