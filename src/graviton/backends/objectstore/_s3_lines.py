"""Requests whose connection can be cut off from outside: when their answer takes too long, and when they are cancelled.

The driver waits as long as every single look at the network brings something, be it a byte a minute, and cannot be told
that nobody waits any more. What changes something on the server is cut off only when it is late, and then it is open
whether it did: cancelled, it is waited for, so that it does not arrive later.
"""

from __future__ import annotations

import asyncio
import functools
import os
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
        """Whatever came of the request then is no answer: it may end anywhere."""
        self._is_unwanted = False
        self._moved_at = _CLOCK.monotonic()
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        """A second handle of the connection, below its TLS. Cut through the driver's own, TLS would be taken off, and
        what lies in the buffers of the system be read as it is; and the driver may close that one at any moment, and
        the system give its number to somebody else."""

    def __enter__(self) -> Line:
        _current.line = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.line = None
        with self._lock:
            self._let_go()

    def use(self, connection: socket.socket) -> None:
        """On the thread: the request goes through `connection`, which is cut at once if the request was."""
        with self._lock:
            self._let_go()
            self._wire = socket.socket(fileno=os.dup(connection.fileno()))
            if self._is_unwanted:
                self._shut()

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
        with self._lock:
            self._is_unwanted = True
            self._shut()

    def check(self) -> None:
        """On the thread: raise if its connection was cut."""
        if self.was_cut:
            raise ConnectionAbortedError("cut off")

    def _shut(self) -> None:
        if self._wire is not None:
            self.was_cut = True
            with suppress(OSError):  # the other side was faster
                self._wire.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


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
    class Cuttable(of):  # type: ignore[misc]  # known at run time only
        def request(self, *arguments: Any, **others: Any) -> Any:
            _use(self.sock)
            _check()
            return super().request(*arguments, **others)

        def _new_conn(self) -> Any:
            made = super()._new_conn()
            _use(made)  # before a handshake, which may take as long as an answer
            return made

        def connect(self) -> None:
            super().connect()
            _check()

        def send(self, data: Any) -> None:
            super().send(data)
            if _current.line is not None:
                _current.line.moved()

        def getresponse(self) -> Any:
            answer = super().getresponse()
            try:
                _check()  # to the driver, a head that was cut off has ended
            except ConnectionAbortedError:
                answer.close()  # it may be the only one that has the connection by now
                raise
            return answer

        def _consume_headers(self, file: Any) -> None:
            """Of `100 Continue`. The driver's own looks for their end for ever if the connection ends before."""
            while (line := file.readline()) != b"\r\n":
                if not line:
                    raise ConnectionResetError("the connection ended in the middle of an answer")

    return Cuttable


def _use(connection: socket.socket | None) -> None:
    if connection is not None and _current.line is not None:
        _current.line.use(connection)


def _check() -> None:
    if _current.line is not None:
        _current.line.check()
