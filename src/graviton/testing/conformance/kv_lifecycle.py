"""The laws of `KeyValueStore`: cancellation, closing and reopening, damage, places that cannot be written."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from graviton.concurrency.executors import in_own_thread
from graviton.errors import IntegrityError, PermissionDenied, Unavailable
from graviton.ports.kv import Delete, Durability, KeyValueStore, Put, Transaction
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, no_threads_left, raises
from graviton.testing.conformance.contract import Contract, needs, optional_hook

__all__ = ["KeyValueLifecycleLaws"]


def _write_both(tx: Transaction) -> None:
    tx.put("a", b"left", b"new")
    tx.put("b", b"right", b"new")


class _CancellationLaws(Contract[KeyValueStore]):
    async def test_cancelled_transaction_has_happened_or_not_as_a_whole(self) -> None:
        store = await self.open()
        old = [Put("a", b"left", b"old"), Put("b", b"right", b"old")]
        for durability in Durability:
            await store.batch(old)
            async for attempt in cancelled_everywhere(partial(store.transact, _write_both, durability)):
                left, right = await store.read(lambda tx: (tx.get("a", b"left"), tx.get("b", b"right")))
                assert left == right
                assert attempt.cancelled or left == b"new"
                await store.batch(old)

    async def test_call_cancelled_before_it_began_has_no_effect(self) -> None:
        store = await self.open()
        async for attempt in cancelled_everywhere(lambda: store.put("a", b"key", b"value")):
            found = await store.get("a", b"key")
            assert found in ({None} if attempt.number == 0 else {None, b"value"})
            await store.delete("a", b"key")

    async def test_cancelled_batch_has_happened_or_not_as_a_whole(self) -> None:
        store = await self.open()
        many = [Put("a", b"%04d" % n, b"v") for n in range(300)]
        async for attempt in cancelled_everywhere(lambda: store.batch(many)):
            found = len(await collect(store.scan("a")))
            assert found in ({0, 300} if attempt.cancelled else {300})
            await store.batch([Delete("a", put.key) for put in many])

    async def test_cancelled_read_leaves_the_store_usable(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"value")
        async for _ in cancelled_everywhere(lambda: collect(store.scan("a"))):
            assert await store.get("a", b"key") == b"value"
        await store.put("a", b"key", b"changed")
        assert await store.get("a", b"key") == b"changed"


class _ClosingLaws(Contract[KeyValueStore]):
    async def test_capabilities_are_those_the_suite_was_chosen_by(self) -> None:
        store = await self.open()
        assert store.capabilities == self.declared()

    async def test_closed_store_is_unavailable(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"value")
        await store.aclose()
        await store.aclose()
        with raises(Unavailable):
            await store.get("a", b"key")
        with raises(Unavailable):
            await store.put("a", b"key", b"value")
        with raises(Unavailable):
            await store.transact(lambda tx: None)
        with raises(Unavailable):
            await store.read(lambda tx: None)
        with raises(Unavailable):
            await store.namespaces()
        with raises(Unavailable):
            await collect(store.scan("a"))

    async def test_closing_gives_threads_back(self) -> None:
        before = set(threading.enumerate())
        store = await self.open()
        await gather(*(store.put("a", b"%d" % n, b"") for n in range(8)))
        assert len(await collect(store.scan("a"))) == 8
        await store.aclose()
        await no_threads_left(before)

    async def test_store_that_was_never_used_can_be_closed(self) -> None:
        before = set(threading.enumerate())
        store = await self.open()
        await store.aclose()
        await no_threads_left(before)

    @needs("persistent")
    async def test_acknowledged_changes_are_there_after_reopening(self) -> None:
        store = await self.open()
        await store.batch([Put("a", b"empty", b""), Put("a", b"gone", b"1"), Put("b", b"key", b"\x00\xff")])
        assert await store.delete("a", b"gone") is True
        await store.transact(lambda tx: tx.put("c", b"relaxed", b"2"), Durability.RELAXED)
        store = await self.reopen(store)
        assert await collect(store.scan("a")) == [(b"empty", b"")]
        assert await store.get("b", b"key") == b"\x00\xff"
        assert await store.get("c", b"relaxed") == b"2"
        assert await store.namespaces() == ["a", "b", "c"]
        store = await self.reopen(store)
        assert await store.transact(lambda tx: tx.get("c", b"relaxed")) == b"2"

    @needs("persistent")
    async def test_undone_transaction_stays_undone_after_reopening(self) -> None:
        store = await self.open()
        await store.put("a", b"left", b"old")

        def fn(tx: Transaction) -> None:
            _write_both(tx)
            raise RuntimeError("planned")

        with raises(RuntimeError):
            await store.transact(fn)
        store = await self.reopen(store)
        assert await collect(store.scan("a")) == [(b"left", b"old")]
        assert await collect(store.scan("b")) == []


class _TroubleLaws(Contract[KeyValueStore]):
    @optional_hook
    async def raw_write(self, namespace: str, key: bytes, value: bytes) -> None:
        """Back door: put a pair into the place past the code under test; no store is open."""
        raise NotImplementedError

    @optional_hook
    async def raw_read(self, namespace: str, key: bytes) -> bytes | None:
        """Back door: what lies in the place; no store is open."""
        raise NotImplementedError

    @optional_hook
    async def damage(self) -> None:
        """Back door: spoil the stored files so that reads must notice; no store is open."""
        raise NotImplementedError

    @optional_hook
    async def make_read_only(self) -> None:
        """Turn the place, where no store is open, into one that `make_store` opens for reading only."""
        raise NotImplementedError

    @optional_hook
    def make_impatient_store(self) -> KeyValueStore:
        """A store on the same place that waits at most 50 ms for another writer."""
        raise NotImplementedError

    @needs("raw_write", "raw_read", "persistent")
    async def test_what_lies_in_the_place_is_what_put_and_get_speak_of(self) -> None:
        store = await self.open()
        await store.put("a", b"\x00put", b"\xffvalue")
        await store.put("a", b"gone", b"")
        await store.delete("a", b"gone")
        await store.aclose()
        assert await self.raw_read("a", b"\x00put") == b"\xffvalue"
        assert await self.raw_read("a", b"gone") is None
        await self.raw_write("a", b"raw", b"written behind its back")
        store = await self.open()
        assert await store.get("a", b"raw") == b"written behind its back"

    @needs("damage", "persistent")
    async def test_damaged_files_raise_integrity_error(self) -> None:
        store = await self.open()
        await store.transact(lambda tx: tx.put_many("a", [(b"%06d" % n, b"value" * 50) for n in range(2_000)]))
        await store.aclose()
        await self.damage()
        with raises(IntegrityError):
            store = await self.open()
            await collect(store.scan("a"))

    @needs("make_read_only", "persistent")
    async def test_read_only_place_refuses_writes_and_serves_reads(self) -> None:
        store = await self.open()
        await store.put("a", b"key", b"value")
        await store.aclose()
        await self.make_read_only()
        store = await self.open()
        assert await store.get("a", b"key") == b"value"
        assert await collect(store.scan("a")) == [(b"key", b"value")]
        assert await store.namespaces() == ["a"]
        with raises(PermissionDenied):
            await store.put("a", b"key", b"changed")
        with raises(PermissionDenied):
            await store.delete("a", b"key")
        assert await store.get("a", b"key") == b"value"

    @needs("make_impatient_store")
    async def test_waiting_too_long_for_another_writer_is_unavailable(self) -> None:
        store = await self.open()
        impatient = self.make_impatient_store()
        self._opened.append(impatient)
        await impatient.put("a", b"key", b"before")
        async with _writing(store):
            with raises(Unavailable):
                await impatient.put("a", b"key", b"refused")
            assert await impatient.get("a", b"key") == b"before"
        assert await store.get("a", b"key") == b"written slowly"
        await impatient.put("a", b"key", b"after")
        assert await store.get("a", b"key") == b"after"


@asynccontextmanager
async def _writing(store: KeyValueStore) -> AsyncIterator[None]:
    """While a transaction of `store` has written and does not end. It may block: it runs on the backend's thread."""
    import asyncio

    begun, finish = threading.Event(), threading.Event()

    def fn(tx: Transaction) -> None:
        tx.put("a", b"key", b"written slowly")
        begun.set()
        finish.wait(10.0)

    task = asyncio.ensure_future(store.transact(fn))
    try:
        await in_own_thread(begun.wait, 10.0)
        yield
    finally:
        finish.set()
        await task


class KeyValueLifecycleLaws(_TroubleLaws, _ClosingLaws, _CancellationLaws):
    """Part of `KeyValueStoreContract`."""
