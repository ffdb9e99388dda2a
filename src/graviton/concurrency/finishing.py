"""Work of an event loop that is done to its end, whoever is cancelled meanwhile; and work that ends together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from graviton.concurrency.blocking import may_block

__all__ = ["finish_anyway", "side_by_side", "until_done"]

_T = TypeVar("_T")


async def finish_anyway(work: Awaitable[_T]) -> _T:
    """The result of `work`, which is done to its end even if the task is cancelled meanwhile: for giving back what
    must not stay behind. On a thread that may block nobody cancels."""
    if may_block():
        return await work
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await until_done(job)
        raise


async def until_done(job: asyncio.Future[Any]) -> None:
    """Wait for `job`, whatever comes of it; cancelling does not cut it short."""
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:  # asked again: still wait, the caller honours the first request
            continue
    if not job.cancelled():
        job.exception()  # retrieved, so that it is not reported as lost


async def side_by_side(calls: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What the calls give, in their order. The first failure, and cancelling, ends the others before it is raised."""
    jobs = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*jobs))
    finally:
        for job in jobs:
            job.cancel()
        for job in jobs:
            await until_done(job)
