"""Requests whose connection can be cut off from outside: when their answer takes too long, and when they are cancelled.

The driver waits as long as every single look at the network brings something, be it a byte a minute, and cannot be told
that nobody waits any more. What changes something on the server is cut off only when it is late, and then it is open
whether it did: cancelled, it is waited for, so that it does not arrive later.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from graviton.concurrency.blocking import may_block
from graviton.core.clock import SystemClock

if TYPE_CHECKING:
    from botocore.client import BaseClient

__all__ = ["Line", "make_cuttable"]

_CLOCK: Final = SystemClock()
"""For durations only."""

_Timer: TypeAlias = asyncio.TimerHandle | threading.Timer


class _OfThread(threading.local):
    line: Line | None = None


_current = _OfThread()


class Line:
    """The connection of the request that a thread makes within its block."""

    def __init__(self) -> None:
        self.was_cut = False
        """The request has failed by that."""
        self._is_unwanted = False
        self._connection: Any = None
        self._moved_at = _CLOCK.monotonic()

    def __enter__(self) -> Line:
        _current.line = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection = _current.line = None

    def use(self, connection: Any) -> None:
        """On the thread: the request goes through `connection`. Raises as `check`."""
        self._connection = connection
        self.check()

    def moved(self) -> None:
        """On the thread: bytes of ours went out."""
        self._moved_at = _CLOCK.monotonic()

    @contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
        """Within the block, cut it once so many seconds have gone by since it was made, and since bytes of ours last
        went out: whatever the other side sends does not count."""
        is_over = False
        timer: _Timer

        def look() -> None:
            nonlocal timer
            left = self._moved_at + seconds - _CLOCK.monotonic()
            if is_over:
                return
            if left > 0:
                timer = _later(left, look)
            else:
                self.cut()

        timer = _later(seconds, look)
        try:
            yield
        finally:
            is_over = True
            timer.cancel()

    def cut(self) -> None:
        """From any thread: end the request, which fails then. Nothing if it is over."""
        self._is_unwanted = True
        connection = self._connection
        if connection is not None and connection.line is self and connection.sock is not None:
            self.was_cut = True
            with suppress(OSError):  # the other side was faster
                connection.sock.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """On the thread: raise if it was cut before."""
        if self._is_unwanted:
            self.was_cut = True
            raise ConnectionAbortedError("cut off")


def _later(seconds: float, call: Callable[[], None]) -> _Timer:
    if not may_block():
        return asyncio.get_running_loop().call_later(seconds, call)
    timer = threading.Timer(seconds, call)  # the loop of this thread stands still meanwhile
    timer.daemon = True
    timer.start()
    return timer


def make_cuttable(client: BaseClient) -> None:
    """Let a client of the driver tell the line of the thread which connection it uses. The driver has no public place
    for that: one that is built otherwise does without, and its requests end when its own time-outs do."""
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    classes = getattr(session, "_pool_classes_by_scheme", None)
    if classes is not None:
        classes.update(_pool_classes())


@functools.cache
def _pool_classes() -> dict[str, type]:
    from botocore import awsrequest

    def pool(of: Any) -> type:
        return type(f"Cuttable{of.__name__}", (of,), {"ConnectionCls": _cuttable(of.ConnectionCls)})

    return {"http": pool(awsrequest.AWSHTTPConnectionPool), "https": pool(awsrequest.AWSHTTPSConnectionPool)}


def _cuttable(of: Any) -> type:
    class Cuttable(of):  # type: ignore[misc]
        line: Line | None = None

        def request(self, *arguments: Any, **others: Any) -> Any:
            self.line = _current.line
            if self.line is not None:
                self.line.use(self)
            return super().request(*arguments, **others)

        def send(self, data: Any) -> None:
            super().send(data)
            if self.line is not None:
                self.line.moved()

        def connect(self) -> None:
            super().connect()
            if self.line is not None:
                self.line.check()

        def getresponse(self) -> Any:
            answer = super().getresponse()
            if self.line is not None:
                self.line.check()  # to the driver, a head that was cut off has ended
            return answer

        def _consume_headers(self, file: Any) -> None:
            """Of `100 Continue`. The driver's own looks for their end for ever if the connection ends before."""
            while (line := file.readline()) != b"\r\n":
                if not line:
                    raise ConnectionResetError("the connection ended in the middle of an answer")

    return Cuttable
