"""Running blocking code beside the event loop, without ever leaving it behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

__all__ = ["finish_anyway", "in_thread"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


async def in_thread(pool: Executor, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """The result of `call(*args)` on a thread of `pool`.

    If the task is cancelled meanwhile the call is still waited for, so that no thread uses a buffer or descriptor that
    its owner gave back; then the cancellation goes on.
    """
    return await _whole(asyncio.get_running_loop().run_in_executor(pool, _called, call, *args))


def _called(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """`call(*args)`. A future takes no StopIteration (of a source that is a careless iterator, say), and who waits
    would wait for ever: it becomes the error that Python makes of it in coroutines (PEP 479)."""
    try:
        return call(*args)
    except StopIteration as error:
        raise RuntimeError("a call on a thread raised StopIteration") from error


async def finish_anyway(work: Awaitable[_T]) -> _T:
    """The result of `work`, which is done to its end even if the task is cancelled meanwhile: for giving back what
    must not stay behind."""
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
