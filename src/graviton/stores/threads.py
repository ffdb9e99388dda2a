"""Running blocking code beside the event loop, without ever leaving it behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

from graviton.concurrency.blocking import may_block

__all__ = ["finish_anyway", "in_thread"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


async def in_thread(pool: Executor, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """The result of `call(*args)` on a thread of `pool`.

    If the task is cancelled meanwhile the call is still waited for, so that no thread uses a buffer or descriptor that
    its owner gave back; then the cancellation goes on. A thread that may block calls at once.
    """
    if may_block():
        return call(*args)
    return await _whole(asyncio.get_running_loop().run_in_executor(pool, call, *args))


async def finish_anyway(work: Awaitable[_T]) -> _T:
    """The result of `work`, which is done to its end even if the task is cancelled meanwhile: for giving back what
    must not stay behind. On a thread that may block nobody cancels."""
    if may_block():
        return await work
    return await _whole(asyncio.ensure_future(work))


async def _whole(job: asyncio.Future[_T]) -> _T:
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        while not job.done():
            try:
                await asyncio.wait([job])
            except asyncio.CancelledError:  # asked again: still wait, the first request is honoured below
                continue
        if not job.cancelled():
            job.exception()  # retrieved, so that it is not reported as lost
        raise
