"""Memory that a driver reads from, on threads of its own: lent for one request, and ours again when that is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from graviton.concurrency.finishing import finish_anyway
from graviton.core.buffers import Buffer

__all__ = ["lent"]

_FIRST_SECONDS = 0.0002
_LONGEST_SECONDS = 0.02


@asynccontextmanager
async def lent(payload: Buffer) -> AsyncIterator[Buffer]:
    """What the driver may be given in place of `payload`. Returns when the driver has let go of it: a request that was
    cancelled is taken down on another thread, a moment later, and must not send what comes into the buffer next."""
    if isinstance(payload, bytes):
        yield payload  # nobody can change it, and the driver keeps it alive
        return
    view = memoryview(payload)
    try:
        yield view
    finally:
        if not _is_back(view):
            await finish_anyway(_until_back(view))


def _is_back(view: memoryview) -> bool:
    try:
        view.release()
    except BufferError:  # somebody still reads from it
        return False
    return True


async def _until_back(view: memoryview) -> None:
    wait = _FIRST_SECONDS
    while not _is_back(view):
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_SECONDS)
