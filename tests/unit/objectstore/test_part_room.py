"""Memory for parts on their way: it grows while there is some, and waits for others only with empty hands."""

from __future__ import annotations

import asyncio

import pytest

from graviton.backends.objectstore._blob_room import PartRoom
from graviton.constraints.budget import ByteBudget
from graviton.errors import LimitExceeded


async def test_room_is_used_again_and_given_back() -> None:
    budget = ByteBudget(100)
    room = PartRoom(budget)
    for size in (10, 10, 30):
        await room.take(size)
    assert budget.used == 50
    room.give(10)
    room.give(30)
    await room.take(40)
    assert budget.used == 50
    room.release()
    room.release()
    assert budget.used == 0


async def test_two_that_grow_at_once_do_not_wait_for_each_other() -> None:
    budget = ByteBudget(100)

    async def use() -> None:
        room = PartRoom(budget)
        for size in (10, 30, 50, 70):
            await room.take(size)
            await asyncio.sleep(0)
            room.give(size)
        room.release()

    async with asyncio.timeout(10):
        await asyncio.gather(*(use() for _ in range(5)))
    assert budget.used == 0


async def test_part_waits_for_an_earlier_one_of_its_own() -> None:
    room = PartRoom(ByteBudget(100))
    await room.take(40)
    waiting = asyncio.ensure_future(room.take(60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    room.give(40)
    await waiting


async def test_part_that_is_larger_than_all_that_puts_may_have_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        await PartRoom(ByteBudget(100)).take(80)
