"""Group commit, and writes that fail: who is told, what is seen, and that the store goes on."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.rocksdb import RocksKeyValueStore
from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._overlay import MAX_TRANSACTION_BYTES
from graviton.concurrency.executors import in_own_thread
from graviton.errors import LimitExceeded, StorageFull, Unavailable
from graviton.ports.kv import Durability, ReadTransaction, Transaction
from tests.unit.rocksdb.stores import keys, opened


def add(tx: Transaction) -> int:
    total = int(tx.get("n", b"total") or b"0") + 1
    tx.put("n", b"total", b"%d" % total)
    return total


async def in_one_group(store: RocksKeyValueStore, *calls: Callable[[Transaction], Any]) -> list[Any]:
    """Outcomes of calls that all wait while the thread is busy."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        begun.set()
        go_on.wait(30)

    holding = asyncio.ensure_future(store.transact(hold))
    await in_own_thread(begun.wait, 30)
    waiting = [asyncio.ensure_future(store.transact(call)) for call in calls]
    await asyncio.sleep(0)
    go_on.set()
    await holding
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_group_shares_one_write_and_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"write": 0, "_sync": 0}
    for name in counts:
        real = getattr(Database, name)

        def counted(self: Database, *args: Any, real: Any = real, name: str = name) -> None:
            counts[name] += 1
            real(self, *args)

        monkeypatch.setattr(Database, name, counted)

    def fail(tx: Transaction) -> None:
        tx.put("fresh", b"key", b"")
        tx.put("n", b"total", b"999")
        raise ValueError("planned")

    def too_much(tx: Transaction) -> None:
        for n in range(5):
            with suppress(LimitExceeded):
                tx.put("n", b"%d" % n, bytes(16 << 20))

    async with opened(tmp_path / "kv") as store:
        await store.transact(add)
        counts.update(write=0, _sync=0)
        found = await in_one_group(store, add, fail, add, too_much, add)
        assert [found[0], found[2], found[4]] == [2, 3, 4]
        assert isinstance(found[1], ValueError)
        assert isinstance(found[3], LimitExceeded), "it wrote too much, and swallowed the error"
        assert counts == {"write": 1, "_sync": 1}
        assert await store.namespaces() == ["n"]
        await store.transact(add, Durability.RELAXED)
        await store.transact(lambda tx: tx.get("n", b"total"))
        assert counts == {"write": 2, "_sync": 1}


async def test_without_sync_nothing_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Database) -> None:
        raise AssertionError("synced")

    monkeypatch.setattr(Database, "_sync", never)
    async with opened(tmp_path / "kv", sync_writes=False) as store:
        assert await store.transact(add) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_write_that_fails_is_told_to_all_and_done_at_most_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    async with opened(tmp_path / "kv") as store:
        await store.transact(add)
        failing = True
        name = "_apply" if when == "before" else "_sync"
        real = getattr(Database, name)

        def fail(self: Database, *args: Any) -> None:
            if failing:
                raise StorageFull("planned")
            real(self, *args)

        monkeypatch.setattr(Database, name, fail)
        found = await in_one_group(store, add, add, lambda tx: tx.put("fresh", b"key", b""))
        assert [type(error) for error in found] == [StorageFull] * 3
        assert len({id(error) for error in found}) == 3, "each has an error of its own"
        # Nobody sees what may not be durable.
        assert await store.get("n", b"total") == b"1"
        assert await store.get("fresh", b"key") is None
        failing = False
        total = await store.transact(add)
        assert total == (2 if when == "before" else 4), "found by the log, once"
        assert await store.get("n", b"total") == b"%d" % total
    assert len(await keys(tmp_path / "kv", "fresh")) == (0 if when == "before" else 1)


async def test_a_long_read_is_told_when_the_store_has_to_be_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "kv") as store:
        await store.transact(lambda tx: tx.put_many("a", [(b"%04d" % n, bytes(1000)) for n in range(2_000)]))
        reading, go_on = threading.Event(), threading.Event()

        def read(tx: ReadTransaction) -> int:
            count = 0
            for _ in tx.scan("a"):
                count += 1
                reading.set()
                go_on.wait(30)
            return count

        long = asyncio.ensure_future(store.read(read))
        await in_own_thread(reading.wait, 30)
        with monkeypatch.context() as patch:
            patch.setattr(Database, "_sync", _raise_full)
            with pytest.raises(StorageFull):
                await store.put("a", b"key", b"")
        with pytest.raises(Unavailable, match="a read that goes on"):
            await store.put("a", b"key", b"")
        go_on.set()
        with pytest.raises(Unavailable):
            await long
        await store.put("a", b"key", b"")
        assert await store.get("a", b"key") == b""


def _raise_full(self: Database) -> None:
    raise StorageFull("planned")


class _Stalling:
    """RocksDB, which wants the first writes to wait."""

    def __init__(self, root: Any, times: int) -> None:
        self._root = root
        self.times = times

    def write(self, *args: Any) -> None:
        self.times -= 1
        if self.times >= 0:
            raise Exception("Result incomplete: Write stall")
        self._root.write(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._root, name)


async def test_a_stall_is_waited_for_and_nothing_stands_still_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path / "kv", stall_timeout_seconds=0.2) as store:
        await store.put("a", b"key", b"0")
        database = store._shared._database
        assert database is not None
        root: Any = database._root
        stalling = _Stalling(root, 5)
        database._root = stalling  # type: ignore[assignment]
        waiting: Awaitable[None] = asyncio.ensure_future(store.put("a", b"key", b"1"))
        await asyncio.sleep(0)
        assert await store.get("a", b"key") == b"0"
        await waiting
        assert await store.get("a", b"key") == b"1"
        assert database.stalled_seconds > 0
        stalling.times = 10_000
        with pytest.raises(Unavailable, match="compaction is behind"):
            await store.put("a", b"key", b"2")
        assert await store.get("a", b"key") == b"1"
        database._root = root
        await store.put("a", b"key", b"3")
        assert await store.get("a", b"key") == b"3"
        assert store._shared._database is database, "it was not opened again for that"


async def test_a_store_that_does_not_sync_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "a", sync_writes=False) as fast, opened(tmp_path / "b") as store:
        assert (fast.capabilities.durable, fast.capabilities.persistent) == (False, True)
        assert store.capabilities.durable


async def test_many_small_rows_count_with_what_they_take_of_the_memory(tmp_path: Path) -> None:
    written = 0

    def fn(tx: Transaction) -> None:
        nonlocal written
        while True:
            tx.put_many("a", [(b"%08d" % n, b"") for n in range(written, written + 1_000)])
            written += 1_000

    async with opened(tmp_path / "kv") as store:
        tracemalloc.start()
        try:
            with pytest.raises(LimitExceeded) as caught:
                await store.transact(fn)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert "several transactions" in caught.value.hint
        assert written > 300_000
        assert peak < MAX_TRANSACTION_BYTES * 2
        assert await store.namespaces() == []
