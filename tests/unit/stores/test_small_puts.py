"""Single puts of small bytes on a disk: gathered where they wait together, and independent all the same."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.backends.sqlite._transaction import WriteView
from graviton.backends.sqlite._write_connections import WriteConnections
from graviton.core.attribute_values import SIZE
from graviton.errors import DigestMismatch, StorageFull, Unavailable
from graviton.metadata.rows import BLOBS, OWNERS, OwnerRow
from graviton.ports.block_index import OwnerState
from graviton.stores import small_puts
from graviton.stores.put_many import MAX_SMALL_BYTES
from tests.forking import refused_in_a_child
from tests.support import World, some_bytes

_T = TypeVar("_T")

BLOBS_AT_ONCE = [some_bytes(100 + number, number) for number in range(40)]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "graviton-small-puts"]


async def _owner_states(store: Store) -> list[OwnerState]:
    kv = await store.metadata()
    return [OwnerRow.decode(value).state async for _, value in kv.scan(OWNERS)]


class _Gate:
    """Holds the thread of a store in its first group until all puts of the test wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self.groups: list[int] = []
        real = small_puts.put_group

        async def held(parts: small_puts.Parts, items: list[small_puts.Item]) -> list[graviton.BlobWriteResult]:
            self._open.wait(30)
            self.groups.append(len(items))
            return await real(parts, items)

        monkeypatch.setattr(small_puts, "put_group", held)

    @classmethod
    async def before(cls, store: Store, monkeypatch: pytest.MonkeyPatch) -> _Gate:
        """A gate before the thread of `store`, which is there and open."""
        await store.put(b"the store is there")
        return cls(monkeypatch)

    async def all_at_once(self, *puts: Awaitable[_T]) -> list[_T | BaseException]:
        """The outcomes of `puts`, of which all but the first wait in line together."""
        tasks = [asyncio.ensure_future(puts[0])]
        await asyncio.sleep(0.05)
        tasks += [asyncio.ensure_future(put) for put in puts[1:]]
        await asyncio.sleep(0.05)
        self._open.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_puts_that_wait_together_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with graviton.open(tmp_path) as store:
        gate, durable = await _Gate.before(store, monkeypatch), []
        real = WriteConnections.commit

        def counted(self: WriteConnections) -> None:
            durable.append(self._full)
            real(self)

        monkeypatch.setattr(WriteConnections, "commit", counted)
        results = await gate.all_at_once(*[store.put(blob) for blob in BLOBS_AT_ONCE])
        assert gate.groups == [1, 39]
        assert durable.count(True) == 2
        for blob, result in zip(BLOBS_AT_ONCE, results, strict=True):
            assert isinstance(result, graviton.BlobWriteResult)
            assert result.created
            assert result.stats.fresh_bytes == len(blob)
            async with await store.get(result.key) as reader:
                assert await reader.read() == blob


async def test_a_put_that_fails_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = graviton.BlobWritePlan(attributes=graviton.BinaryAttributes.EMPTY.advertise({SIZE: 5}, at_ns=1))
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        puts = [store.put(blob) for blob in BLOBS_AT_ONCE[:6]]
        puts.insert(3, store.put(b"six bytes, or more", wrong))
        results = await gate.all_at_once(*puts)
        assert isinstance(results.pop(3), DigestMismatch)
        assert all(isinstance(result, graviton.BlobWriteResult) for result in results)
        assert gate.groups == [1, 6, *[1] * 6]
        assert set(await _owner_states(store)) == {OwnerState.COMMITTED}
        assert len([key async for key in store.list()]) == 7


async def test_different_kinds_are_different_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = graviton.BlobWritePlan
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        plans = [plan(), plan(), plan(holder="h"), plan(domain="d"), plan(hash=graviton.HashAlgo.SHA256), plan()]
        await gate.all_at_once(*[store.put(b"the same bytes", one) for one in plans])
        assert gate.groups == [1, 2, 1, 1, 1]
        assert len([stat async for stat in store.list()]) == 3
        assert len([stat async for stat in store.list(domain="d")]) == 1


async def test_many_small_blocks_are_several_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = graviton.BlobWritePlan(chunker=graviton.ChunkerSpec.parse("fixed-v1:64"))
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        puts = [store.put(some_bytes(200_000, number), plan) for number in range(5)]
        assert all(isinstance(one, graviton.BlobWriteResult) for one in await gate.all_at_once(*puts))
        assert gate.groups == [1, 2, 2], "a step has at most 8,192 blocks"


async def test_small_puts_wait_for_no_memory(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"the store is there")
        budget = (await store.required()).budget
        lease = await budget.lease(budget.total)
        await asyncio.wait_for(store.put(b"their bytes are there already"), 10)
        lease.release()


async def test_equal_blobs_in_one_group_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        results = await gate.all_at_once(*[store.put(b"equal") for _ in range(5)])
        created = [result.created for result in results if isinstance(result, graviton.BlobWriteResult)]
        assert sorted(created) == [False] * 4 + [True]
        assert (await store.totals()).blobs == 2


async def test_a_put_that_is_cancelled_while_it_waits_never_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        waiting = asyncio.ensure_future(store.put(b"first"))
        await asyncio.sleep(0.02)
        doomed = asyncio.ensure_future(store.put(b"doomed"))
        await asyncio.sleep(0.02)
        doomed.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert doomed.done(), "it does not wait for others"
        await gate.all_at_once(waiting, store.put(b"last"))
        assert gate.groups == [1, 1]
        assert [stat.size async for stat in store.list()].count(6) == 0
        assert set(await _owner_states(store)) == {OwnerState.COMMITTED}


async def test_everybody_is_told_of_a_failure_that_concerns_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        real = WriteView.put_many

        def full(self: WriteView, namespace: str, items: object) -> None:
            if namespace == BLOBS:
                raise StorageFull("planned")
            real(self, namespace, items)  # type: ignore[arg-type]

        monkeypatch.setattr(WriteView, "put_many", full)
        results = await gate.all_at_once(*[store.put(blob) for blob in BLOBS_AT_ONCE[:5]])
        assert [type(result) for result in results] == [StorageFull] * 5
        assert len({id(result) for result in results}) == 5
        monkeypatch.setattr(WriteView, "put_many", real)
        assert OwnerState.OPEN not in await _owner_states(store)
        await store.put(BLOBS_AT_ONCE[0])


async def test_closing_ends_the_thread_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    store = graviton.open(tmp_path)
    await store.put(b"the store is there")
    puts = [asyncio.ensure_future(store.put(blob)) for blob in BLOBS_AT_ONCE]
    await asyncio.wait(puts, return_when=asyncio.FIRST_COMPLETED)
    puts += [asyncio.ensure_future(store.put(blob + b"more")) for blob in BLOBS_AT_ONCE]
    await asyncio.sleep(0)
    await store.aclose()
    assert _threads() == []
    results = await asyncio.gather(*puts, return_exceptions=True)
    async with graviton.open(tmp_path) as again:
        for result in results:
            if isinstance(result, graviton.BlobWriteResult):
                assert await again.stat(result.key) is not None
            else:
                assert isinstance(result, Unavailable)
    assert not all(isinstance(result, Unavailable) for result in results)
    with pytest.raises(Unavailable, match="closed"):
        await store.put(b"late")


async def test_a_store_that_is_forgotten_takes_its_thread_along(tmp_path: Path) -> None:
    store = graviton.open(tmp_path)
    await store.put(b"small")
    assert len(_threads()) == 1
    del store
    gc.collect()
    for _ in range(200):
        if not _threads():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the thread stays")


async def test_after_a_fork_a_put_says_so(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"small")
        refused_in_a_child(lambda: store.put(b"other"))


async def test_a_child_does_not_wait_for_a_lock_that_was_held_during_the_fork(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"small")
        small = (await store.required())._puts._small_puts
        assert small is not None

        async def put_and_close() -> object:
            try:
                return await store.put(b"other")
            finally:
                await small.aclose()

        refused_in_a_child(put_and_close, small._gathering._lock)
        await store.put(b"other")


async def test_memory_needs_no_thread(kernel: graviton.Kernel) -> None:
    world = World(kernel)
    await world.store.put(b"small")
    assert _threads() == []


async def test_want_of_handles_is_told_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it ended the thread before it had begun, and every small put hung from then on."""
    async with graviton.open(tmp_path) as store:
        await store.put(bytes(MAX_SMALL_BYTES + 1))
        with monkeypatch.context() as patch:

            def refuse() -> None:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

            patch.setattr(asyncio, "SelectorEventLoop", refuse)
            with pytest.raises(Unavailable, match="handles"):
                await asyncio.wait_for(store.put(b"small"), 10)
        await asyncio.wait_for(store.put(b"small"), 10)


async def test_nobody_waits_for_the_busy_store_of_others_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What concerns all is tried once, and each gets an error of his own."""
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)

        async def busy(*_: object) -> None:
            raise Unavailable("planned")

        cas = await store.required()
        monkeypatch.setattr(cas.index, "open", busy)
        results = await gate.all_at_once(*[store.put(blob) for blob in BLOBS_AT_ONCE[:9]])
        assert gate.groups == [1, 8]
        assert [type(result) for result in results] == [Unavailable] * 9
        assert len({id(result) for result in results}) == 9


async def test_no_error_holds_the_blobs_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = graviton.BlobWritePlan(attributes=graviton.BinaryAttributes.EMPTY.advertise({SIZE: 5}, at_ns=1))
    async with graviton.open(tmp_path) as store:
        gate = await _Gate.before(store, monkeypatch)
        results = await gate.all_at_once(*[store.put(blob, wrong) for blob in BLOBS_AT_ONCE[:4]])
        assert [type(result) for result in results] == [DigestMismatch] * 4
        assert [result.__context__ for result in results if isinstance(result, DigestMismatch)] == [None] * 4
