"""Several processes that share a port: started, watched, started again when one dies, and stopped together.

Each is `graviton serve` itself, told to be a worker. It gets a pipe as its standard input, whose end tells it that this
process is gone, and writes a line to its standard output when it answers requests.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from graviton.errors import GravitonError, Unavailable
from graviton.server.signals import StopSignals

__all__ = ["READY", "Workers", "parent_gone"]

READY: Final = b"ready\n"
"""What a worker writes when it answers requests."""

_LEAST_PAUSE: Final = 0.5
_MOST_PAUSE: Final = 30.0
"""Seconds before a worker that died is started again: doubled each time, so that one that cannot live does not keep the
machine busy, and back to the least when it has lived for a minute."""
_LONG_LIFE: Final = 60.0

_START_SECONDS: Final = 60.0
"""How long a worker may take until it answers requests."""

_KILL_SECONDS: Final = 15.0
"""Beyond the grace, before a worker that does not end is killed."""


class Workers:
    """The workers of one server. `command` runs one of them."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        grace_seconds: float,
        note: Callable[[str], None],
        ended: Callable[[int], None],
    ) -> None:
        """`note` tells people that a worker died; `ended` is told which, before another one takes its place."""
        self._command, self._count = list(command), count
        self._grace = grace_seconds
        self._note, self._ended = note, ended
        self._running: dict[int, Process] = {}
        self._signals = StopSignals()

    async def run(self, announce: Callable[[], None]) -> int:
        """Run them until a signal; the exit code. `announce` is called when all answer requests. Raises Unavailable if
        one does not come up at first."""
        watchers: list[asyncio.Task[None]] = []
        try:
            await asyncio.gather(*(self._start(number) for number in range(self._count)))
            if not self._signals.first.is_set():
                announce()
            watchers = [asyncio.create_task(self._watch(number)) for number in range(self._count)]
            await self._signals.first.wait()
        finally:
            for watcher in watchers:
                watcher.cancel()
            await self._end_all()
        return self._signals.exit_code

    async def _start(self, number: int) -> None:
        """Start a worker and wait until it answers requests. Raises Unavailable."""
        if self._signals.first.is_set():
            return
        # A session of its own: Ctrl-C is for this process, which tells the workers once.
        process = await asyncio.create_subprocess_exec(
            *self._command, str(number), stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        self._running[number] = process
        assert process.stdout is not None, "asked for as a pipe"
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
        except TimeoutError:
            line = b""
        if line != READY and not self._signals.first.is_set():
            _send(process, signal.SIGKILL)
            raise Unavailable(
                f"worker {number} did not come up",
                operation="serve",
                hint="What it printed says why; `graviton doctor` looks at the store.",
            )

    async def _watch(self, number: int) -> None:
        """Start a worker again whenever it dies, whatever fails meanwhile: a machine without memory for a process has
        some a moment later, and nobody else would ever start it."""
        loop = asyncio.get_running_loop()
        pause = _LEAST_PAUSE
        while True:
            began = loop.time()
            code = await self._running[number].wait()
            self._forget(number)
            pause = _LEAST_PAUSE if loop.time() - began >= _LONG_LIFE else min(pause * 2, _MOST_PAUSE)
            self._tell(f"worker {number} ended with {code}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            try:
                await self._start(number)
            except (OSError, GravitonError) as error:
                self._tell(f"worker {number} could not be started: {error}")

    def _forget(self, number: int) -> None:
        try:
            self._ended(number)
        except OSError as error:  # the next one looks after its own figures once more
            self._tell(f"figures of worker {number} stay: {error}")

    def _tell(self, text: str) -> None:
        with suppress(OSError):  # whoever reads it may be gone
            self._note(text)

    async def _end_all(self) -> None:
        """Stop all, in order; at once if somebody is in a hurry, and by force what does not end then."""
        hurry: asyncio.Future[Any] = asyncio.create_task(self._signals.second.wait())
        waits = [asyncio.create_task(process.wait()) for process in self._running.values()]
        self._send_all(signal.SIGTERM)
        ended: asyncio.Future[list[int]] = asyncio.gather(*waits)
        either: list[asyncio.Future[Any]] = [ended, hurry]
        await asyncio.wait(either, timeout=self._grace + _KILL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if hurry.done():
            self._send_all(signal.SIGTERM)
            await asyncio.wait([ended], timeout=_KILL_SECONDS)
        hurry.cancel()
        self._send_all(signal.SIGKILL)
        await ended

    def _send_all(self, signum: int) -> None:
        for process in self._running.values():
            _send(process, signum)


def _send(process: Process, signum: int) -> None:
    if process.returncode is None:
        try:
            process.send_signal(signum)
        except ProcessLookupError:
            pass  # it has just ended


async def parent_gone() -> None:
    """Until the process that started this worker has ended."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
