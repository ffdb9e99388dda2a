"""Scripted faults happen when they were planned, are counted, and are missed when they do not come."""

import asyncio

import pytest

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.errors import Unavailable
from graviton.testing.conformance.block_values import block
from graviton.testing.faults import FaultPlan, FaultyBlockStore, FaultyKeyValueStore


async def test_nth_call_fails_before_it_takes_effect() -> None:
    plan = FaultPlan()
    store = FaultyKeyValueStore(InMemoryKeyValueStore(), plan)
    error = Unavailable("planned")
    plan.fail("put", 2, error)
    await store.put("a", b"1", b"")
    with pytest.raises(Unavailable) as caught:
        await store.put("a", b"2", b"")
    assert caught.value is error
    await store.put("a", b"3", b"")
    assert [key async for key, _ in store.scan("a")] == [b"1", b"3"]
    assert plan.calls == {"put": 3, "scan": 1}
    plan.assert_all_happened()


async def test_lost_reply_takes_effect_and_fails() -> None:
    plan = FaultPlan()
    store = FaultyKeyValueStore(InMemoryKeyValueStore(), plan)
    plan.fail("transact", 1, Unavailable("planned"), after=True)
    with pytest.raises(Unavailable):
        await store.transact(lambda tx: tx.put("a", b"key", b"value"))
    assert await store.get("a", b"key") == b"value"
    plan.assert_all_happened()


async def test_fault_that_never_happened_is_an_error() -> None:
    plan = FaultPlan()
    store = FaultyBlockStore(InMemoryBlockStore(), plan)
    plan.fail("get", 2, Unavailable("planned"))
    plan.fail("put_blocks", 2, Unavailable("planned"), after=True)
    await store.put_blocks([block(b"one")])
    await store.get(block(b"one").key)
    with pytest.raises(AssertionError, match=r"get call 2.*put_blocks call 2"):
        plan.assert_all_happened()


async def test_after_fault_of_a_call_that_failed_by_itself_has_not_happened() -> None:
    plan = FaultPlan()
    store = FaultyBlockStore(InMemoryBlockStore(), plan)
    plan.fail("get", 1, Unavailable("planned"), after=True)
    with pytest.raises(LookupError):
        await store.get(block(b"missing").key)
    with pytest.raises(AssertionError, match="get call 1"):
        plan.assert_all_happened()


async def test_iteration_fails_before_its_first_item_or_after_its_last() -> None:
    plan = FaultPlan()
    store = FaultyBlockStore(InMemoryBlockStore(), plan)
    await store.put_blocks([block(b"one")])
    plan.fail("list", 1, Unavailable("planned"))
    plan.fail("list", 2, Unavailable("planned"), after=True)
    for expected in ([], [block(b"one").key]):
        seen = []
        with pytest.raises(Unavailable):
            async for key in store.list():
                seen.append(key)  # noqa: PERF401 - what came before the fault counts
        assert seen == expected
    plan.assert_all_happened()


async def test_held_call_waits_until_it_is_released() -> None:
    plan = FaultPlan()
    store = FaultyKeyValueStore(InMemoryKeyValueStore(), plan)
    hold = plan.hold("put", 1)
    task = asyncio.ensure_future(store.put("a", b"key", b"value"))
    await hold.reached.wait()
    assert await store.get("a", b"key") is None
    assert not task.done()
    hold.release()
    await task
    assert await store.get("a", b"key") == b"value"
    plan.assert_all_happened()


async def test_delay_lets_others_go_first() -> None:
    plan = FaultPlan()
    store = FaultyKeyValueStore(InMemoryKeyValueStore(), plan)
    plan.delay("put", 1, 0.01)
    await asyncio.gather(store.put("a", b"key", b"slow"), store.put("a", b"key", b"fast"))
    assert await store.get("a", b"key") == b"slow"
    plan.assert_all_happened()


async def test_plan_refuses_what_cannot_happen() -> None:
    plan = FaultPlan()
    store = FaultyKeyValueStore(InMemoryKeyValueStore(), plan)
    await store.get("a", b"key")
    with pytest.raises(ValueError, match="no store has a method"):
        plan.fail("frobnicate", 1, Unavailable("planned"))
    with pytest.raises(ValueError, match="is over"):
        plan.fail("get", 1, Unavailable("planned"))
    plan.fail("get", 2, Unavailable("planned"))
    with pytest.raises(ValueError, match="has its fault already"):
        plan.delay("get", 2, 1.0)
