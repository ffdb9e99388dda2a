"""Many small blobs at once: each as if it were put alone, all or nothing of a group."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from graviton.core.attribute_values import SIZE, digest_name
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import DigestMismatch, InvalidInput, StorageFull
from graviton.ports.blobs import SmallBlob
from tests.support import World, YieldingKv, some_bytes
from tests.unit.stores.puts import FailingBlocks, advertise

pytestmark = pytest.mark.python_kernel


async def test_put_many_is_put_for_each(kernel: Kernel) -> None:
    world = World(kernel)
    sources = [b"", b"a", b"b", b"a", some_bytes(5000), some_bytes(300_000), b"c", b""]
    results = [result async for result in world.store.put_many(sources)]
    assert [result.key for result in results] == [BlobKey(HashAlgo.BLAKE3.digest(data), len(data)) for data in sources]
    assert [result.created for result in results] == [True, True, True, False, True, True, True, False]
    for source, result in zip(sources, results, strict=True):
        async with await world.store.get(result.key) as reader:
            assert await reader.read() == source
    assert sum(result.stats.fresh_bytes for result in results) == (await world.store.totals()).stored_bytes
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_a_failing_group_leaves_nothing_of_it(kernel: Kernel) -> None:
    world = World(kernel, blocks=(blocks := FailingBlocks()))
    blocks.fails_at = 1
    with pytest.raises(StorageFull):
        async for _ in world.store.put_many([b"a", b"b"]):
            pytest.fail("nothing was stored")
    assert blocks.calls == 1
    assert [stat async for stat in world.store.list()] == []
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_groups_are_committed_in_order_and_the_first_failure_ends_all(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 2)
    sources = [b"a", b"b", b"c", b"a", b"e", some_bytes(300_000), b"f", b"g"]
    world = World(kernel)
    results = [result async for result in world.store.put_many(sources)]
    assert [result.created for result in results] == [True, True, True, False, True, True, True, True]
    assert world.budget.used == 0
    world = World(kernel, blocks=(blocks := FailingBlocks()))
    blocks.fails_at = 2  # the second group
    seen = []
    with pytest.raises(StorageFull):
        async for result in world.store.put_many(sources):
            seen += [result.key.size]
    assert seen in ([], [1, 1])
    assert {stat.key async for stat in world.store.list()} <= {result.key for result in results[:2]}
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_leaving_put_many_early_leaves_nothing_open(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 2)
    world = World(kernel)
    async with aclosing(world.store.put_many(b"%d" % n for n in range(100))) as results:
        async for _ in results:
            break
    assert await world.open_sessions() == 0
    assert world.budget.used == 0


async def test_leaving_put_many_by_break_ends_it_within_some_turns(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 2)
    world = World(kernel, kv=YieldingKv())
    before = asyncio.all_tasks()
    async for _ in world.store.put_many(b"%d" % n for n in range(100)):
        break
    for _ in range(100):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert await world.open_sessions() == 0
    assert world.budget.used == 0
    assert (await world.store.totals()).blobs <= 4, "nothing more is begun"


async def test_what_comes_before_a_bad_one_of_many_is_put(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.stores.put_many.MAX_GROUP_ITEMS", 3)

    class BrokenError(Exception):
        pass

    def breaking(good: list[bytes]) -> Iterator[bytes]:
        yield from good
        raise BrokenError

    wrong = SmallBlob(b"x", BinaryAttributes.EMPTY.advertise({digest_name(HashAlgo.SHA256): _SHA}, at_ns=1))
    for count in (0, 1, 3, 5, 7):
        good = [b"%d" % n for n in range(count)]
        for sources, error in (
            ([*good, "text", b"after"], InvalidInput),
            ([*good, wrong, b"after"], InvalidInput),
            (breaking(good), BrokenError),
        ):
            world = World(kernel)
            results = []
            with pytest.raises(error):
                async for result in world.store.put_many(sources):  # type: ignore[arg-type]
                    results += [result.key]
            assert results == [BlobKey(HashAlgo.BLAKE3.digest(data), len(data)) for data in good]
            assert {stat.key async for stat in world.store.list()} == set(results)
            assert await world.open_sessions() == 0
            assert world.budget.used == 0


_SHA = HashAlgo.SHA256.digest(b"x")


async def test_each_of_many_may_have_attributes_of_its_own(kernel: Kernel) -> None:
    world = World(kernel)

    def named(name: str) -> BinaryAttributes:
        return BinaryAttributes.EMPTY.advertise({"user.name": name}, at_ns=1)

    plan = advertise({"user.batch": "7"})
    sources = [SmallBlob(b"a", named("a.txt")), b"b", SmallBlob(some_bytes(300_000), named("c.bin"))]
    results = [result async for result in world.store.put_many(sources, plan)]
    assert [result.attributes.file_name for result in results] == ["a.txt", None, "c.bin"]
    assert {result.attributes.custom["user.batch"] for result in results} == {"7"}
    wrong = SmallBlob(b"x", BinaryAttributes.EMPTY.advertise({SIZE: 2}, at_ns=1))
    with pytest.raises(DigestMismatch):
        [result async for result in world.store.put_many([b"y", wrong])]
    assert await world.open_sessions() == 0
