"""Puts that fail, are cancelled, or do not know how they ended: nothing left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.errors import Conflict, LimitExceeded, StorageFull, Unavailable
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockWritePlan, CanonicalBlock
from graviton.ports.kv import Durability
from tests.support import World, YieldingBlocks, YieldingKv, some_bytes
from tests.unit.stores.puts import DATA, KEY, FailingBlocks, pieces

pytestmark = pytest.mark.python_kernel


async def test_a_failing_block_store_fails_the_put_and_leaves_no_session(kernel: Kernel) -> None:
    world = World(kernel, blocks=(blocks := FailingBlocks()))
    blocks.fails_at = 1
    with pytest.raises(StorageFull):
        await world.store.put(pieces(DATA, 1000))
    assert blocks.calls == 1
    assert await world.store.stat(KEY) is None
    assert await world.open_sessions() == 0
    assert world.budget.used == 0
    assert (await world.store.put(DATA)).created


async def test_a_failing_source_fails_the_put_with_its_own_error(kernel: Kernel) -> None:
    class BrokenError(Exception):
        pass

    async def source() -> AsyncIterator[bytes]:
        yield DATA
        raise BrokenError

    world = World(kernel)
    with pytest.raises(BrokenError):
        await world.store.put(source())
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


class _LostReply(YieldingKv):
    """The `lose`-th durable transaction happens, but its caller is told that nobody knows."""

    lose = 0
    durable = 0

    async def transact(self, fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
        result = await super().transact(fn, durability)
        if durability is Durability.FULL:
            self.durable += 1
            if self.durable == self.lose:
                raise Unavailable("the connection broke")
        return result


async def test_a_lost_reply_to_a_commit_is_resolved_by_looking(kernel: Kernel) -> None:
    world = World(kernel, kv=(kv := _LostReply()))
    kv.lose = 1
    result = await world.store.put(DATA)
    assert kv.durable == 1
    assert result.created
    assert result.key == KEY
    kv.lose = 2
    again = await world.store.put(DATA)
    assert not again.created


async def test_a_lost_reply_to_the_commit_of_many_is_resolved_by_looking(kernel: Kernel) -> None:
    world = World(kernel, kv=(kv := _LostReply()))
    sources = [b"a", b"b", b"a", some_bytes(5000)]
    for lose in (1, 2):
        kv.lose = lose
        results = [result async for result in world.store.put_many(sources)]
        assert kv.durable == lose
        assert [result.key.size for result in results] == [1, 1, 1, 5000]
        assert [result.created for result in results] == ([True, True, False, True] if lose == 1 else [False] * 4)
    assert await world.open_sessions() == 0


class _RefusedCommit(YieldingKv):
    async def transact(self, fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
        if durability is Durability.FULL:
            raise Unavailable("down")
        return await super().transact(fn, durability)


async def test_a_commit_that_did_not_happen_is_an_error(kernel: Kernel) -> None:
    world = World(kernel, kv=_RefusedCommit())
    with pytest.raises(Unavailable):
        await world.store.put(DATA)
    with pytest.raises(Unavailable):
        [result async for result in world.store.put_many([b"a", b"b"])]
    assert [stat async for stat in world.store.list()] == []
    assert await world.open_sessions() == 0


async def test_a_session_ended_by_somebody_else_is_a_conflict(kernel: Kernel) -> None:
    world = World(kernel)

    async def source() -> AsyncIterator[bytes]:
        yield DATA
        while not await world.open_sessions():
            await asyncio.sleep(0)
            yield some_bytes(9_000_000)
            break

    class Ending(YieldingBlocks):
        async def put_blocks(self, blocks, plan=DEFAULT_WRITE_PLAN) -> BlockBatchResult:  # type: ignore[no-untyped-def]
            await world.index.end(int(plan.session, 16))
            return await super().put_blocks(blocks, plan)

    world = World(kernel, blocks=Ending())
    with pytest.raises(Conflict):
        await world.store.put(DATA)
    assert await world.store.stat(KEY) is None


async def test_cancelling_at_any_point_leaves_nothing_behind(kernel: Kernel) -> None:
    """Cancel after 0, 1, 2, … turns of the event loop until the put is faster than the cancellation."""
    turns = 0
    for turns in range(2000):
        world = World(kernel)
        task = asyncio.create_task(world.store.put(pieces(DATA[:20_000], 2500)))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            assert (await task).created
            break
        task.cancel()
        try:
            await asyncio.wait_for(task, 10)
        except asyncio.CancelledError:
            assert await world.open_sessions() == 0
            if await world.store.totals() != (0, 0, 0, 0):  # the commit came first: then all of it is there
                stats = [stat async for stat in world.store.list()]
                assert len(stats) <= 1
        assert world.budget.used == 0
        await world.store.aclose()
    else:
        pytest.fail("the put never finished")
    assert turns > 10


async def test_memory_stays_within_the_budget_and_everybody_gets_through(kernel: Kernel) -> None:
    budget = ByteBudget(8 * 1024 * 1024)
    world = World(kernel, budget=budget)
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, budget.used)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    datas = [some_bytes(30_000, seed) for seed in range(20)]
    results = await asyncio.wait_for(asyncio.gather(*(world.store.put(pieces(data, 5000)) for data in datas)), 60)
    watcher.cancel()
    assert len({result.key for result in results}) == 20
    assert 1024 * 1024 < peak <= budget.for_puts
    assert budget.used == 0


async def test_a_budget_below_one_block_is_refused_with_advice(kernel: Kernel) -> None:
    world = World(kernel, budget=ByteBudget(1024 * 1024))
    with pytest.raises(LimitExceeded, match="memory"):
        await world.store.put(pieces(DATA, 5000))


async def test_writers_that_fail_together_are_told_once(kernel: Kernel) -> None:
    """Two segments are written side by side: on a full disk both fail, and nobody asks the second one."""

    class Full(YieldingBlocks):
        def __init__(self) -> None:
            super().__init__()
            self.waiting = 0

        async def put_blocks(
            self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
        ) -> BlockBatchResult:
            self.waiting += 1
            while self.waiting < 2:
                await asyncio.sleep(0)
            raise StorageFull("planned")

    world = World(kernel, blocks=Full(), spec=ChunkerSpec.parse("fixed-v1:65536"))
    untold: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: untold.append(context))
    with pytest.raises(StorageFull):
        await world.store.put(bytearray(some_bytes(24 * 1024 * 1024)))
    gc.collect()
    await asyncio.sleep(0)
    assert untold == []
    assert world.budget.used == 0
