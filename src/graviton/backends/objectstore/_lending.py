"""Memory that a driver reads from, on threads of its own: lent for one request, and ours again when that is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from graviton.concurrency.finishing import finish_anyway
from graviton.core.buffers import Buffer
from graviton.errors import Unavailable

__all__ = ["Lending"]

_FIRST_SECONDS = 0.0002
_LONGEST_SECONDS = 0.02
_PATIENCE_SECONDS: Final = 3.0
"""How long what a request has left behind is waited for. A driver that takes a request down needs a millisecond; a
server that answers early, and goes on to read what it has refused, as long as it likes."""


class Lending:
    """What is lent by one store. Usable from several threads and event loops."""

    def __init__(self, most: int) -> None:
        """No more is lent while over `most` bytes have not come back."""
        self._most = most
        self._lock = threading.Lock()
        self._strays: list[memoryview] = []

    @asynccontextmanager
    async def lent(self, payload: Buffer) -> AsyncIterator[Buffer]:
        """What the driver may be given in place of `payload`. Returns when the driver has let go of it: a request that
        was cancelled is taken down on another thread, a moment later, and must not send what comes into the buffer
        next.

        That is waited for a few seconds. Where the server has failed the request and goes on to read it, the failure is
        told then: the driver keeps the memory until the server is done. What was to succeed raises Unavailable."""
        if isinstance(payload, bytes):
            yield payload  # nobody can change it, and the driver keeps it alive
            return
        self._check_strays()
        view, has_failed = memoryview(payload), False
        try:
            yield view
        except BaseException:
            has_failed = True
            raise
        finally:
            if not _is_back(view) and not await finish_anyway(_comes_back(view)):
                self._lose(view, has_failed)

    def _lose(self, view: memoryview, has_failed: bool) -> None:
        with self._lock:
            self._strays.append(view)
        if not has_failed:
            raise Unavailable("the server has answered and still reads what it was sent", operation="put")

    def _check_strays(self) -> None:
        with self._lock:
            self._strays = [view for view in self._strays if not _is_back(view)]
            gone = sum(view.nbytes for view in self._strays)
        if gone > self._most:
            raise Unavailable(
                f"the server still reads {gone:,} bytes of requests that it has answered",
                operation="put",
                hint="Look at the server, and at the proxy in front of it.",
            )


def _is_back(view: memoryview) -> bool:
    try:
        view.release()
    except BufferError:  # somebody still reads from it
        return False
    return True


async def _comes_back(view: memoryview) -> bool:
    wait, waited = _FIRST_SECONDS, 0.0
    while waited < _PATIENCE_SECONDS:
        await asyncio.sleep(wait)
        if _is_back(view):
            return True
        waited += wait
        wait = min(wait * 2, _LONGEST_SECONDS)
    return False
