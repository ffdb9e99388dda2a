"""Requests whose connection can be cut off from outside: when their answer as a whole takes too long, and when they are
cancelled.

The driver waits as long as every single look at the network brings something, be it a byte a minute, and cannot be told
that nobody waits any more. Only what changes nothing on the server may be cut off: the rest must not arrive later.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from graviton.concurrency.blocking import may_block

if TYPE_CHECKING:
    from botocore.client import BaseClient

__all__ = ["Line", "make_cuttable"]


class _OfThread(threading.local):
    line: Line | None = None


_current = _OfThread()


class Line:
    """The connection of the request that a thread makes within its block."""

    def __init__(self) -> None:
        self.was_cut = False
        self._connection: Any = None

    def __enter__(self) -> Line:
        _current.line = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection = _current.line = None

    def use(self, connection: Any) -> None:
        """On the thread: the request goes through `connection`."""
        self._connection = connection

    def cut_after(self, seconds: float) -> asyncio.TimerHandle | threading.Timer:
        """Cut it then, unless what is given back is cancelled before."""
        if not may_block():
            return asyncio.get_running_loop().call_later(seconds, self.cut)
        timer = threading.Timer(seconds, self.cut)  # the loop of this thread stands still meanwhile
        timer.daemon = True
        timer.start()
        return timer

    def cut(self) -> None:
        """From any thread: end the request, which fails then. Nothing if it is over."""
        self.was_cut = True
        connection = self._connection
        if connection is not None and connection.line is self and connection.sock is not None:
            with suppress(OSError):  # the other side was faster
                connection.sock.shutdown(socket.SHUT_RDWR)

    def check(self) -> None:
        """On the thread, once there is a connection: raise if it was cut before."""
        if self.was_cut:
            raise ConnectionAbortedError("cut off while connecting")


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

        def connect(self) -> None:
            super().connect()
            if self.line is not None:
                self.line.check()

    return Cuttable
