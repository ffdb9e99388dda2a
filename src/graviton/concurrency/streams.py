"""Work on many items, a few at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["for_each"]

_T = TypeVar("_T")


async def for_each(
    items: AsyncIterator[_T] | Iterable[_T], work: Callable[[_T], Awaitable[None]], streams: int
) -> None:
    """Do `work` with every item, `streams` of them at the same time; an item is taken when somebody is free for it. The
    first failure, of work or items, ends the rest and is raised."""
    upcoming = items if isinstance(items, AsyncIterator) else _one_by_one(items)
    turn = asyncio.Lock()

    async def stream() -> None:
        while True:
            async with turn:
                try:
                    item = await anext(upcoming)
                except StopAsyncIteration:
                    return
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(stream())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _one_by_one(items: Iterable[_T]) -> AsyncIterator[_T]:
    for item in items:
        yield item
