from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from graviton.concurrency.streams import closing, for_each


async def test_every_item_is_worked_on_once_and_few_at_the_same_time() -> None:
    done: list[int] = []
    going_on = most = 0

    async def work(item: int) -> None:
        nonlocal going_on, most
        going_on += 1
        most = max(most, going_on)
        await asyncio.sleep(0)
        going_on -= 1
        done.append(item)

    async def source() -> AsyncIterator[int]:
        for item in range(20):
            assert item <= len(done) + 3, "taken before anybody was free"
            yield item

    await for_each(source(), work, 3)
    assert (sorted(done), most) == (list(range(20)), 3)
    await for_each(range(20, 22), work, 3)
    assert sorted(done) == list(range(22))


@pytest.mark.parametrize("fails", ["work", "items"])
async def test_first_failure_ends_the_rest_and_is_raised_as_it_is(fails: str) -> None:
    ended = asyncio.Event()

    async def work(item: int) -> None:
        if item == 0:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
        if fails == "work":
            raise ValueError(item)

    async def source() -> AsyncIterator[int]:
        yield 0
        yield 1
        raise ValueError(1)

    with pytest.raises(ValueError, match="1"):
        await for_each(source(), work, 2)
    assert ended.is_set()


async def test_listing_that_is_left_is_ended_then_and_not_when_it_is_garbage() -> None:
    ended: list[int] = []

    async def listing() -> AsyncIterator[int]:
        try:
            for item in range(10):
                yield item
        finally:
            ended.append(1)

    items = listing()
    async with closing(items) as left:
        async for _ in left:
            break
        assert ended == []
    assert ended == [1]
