"""Items that come one after the other: work on a few at the same time, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

__all__ = ["closing", "for_each"]

_T = TypeVar("_T")


@asynccontextmanager
async def closing(items: AsyncIterator[_T]) -> AsyncGenerator[AsyncIterator[_T], None]:
    """`aclosing` for what is promised as an iterator only. Generators, which listings are, end when this is left; what
    cannot be ended is left to itself."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


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
