"""What views see beside writes: one moment of all namespaces, and nothing that is not durable yet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.rocksdb import RocksKeyValueStore
from graviton.backends.rocksdb._database import Database
from graviton.concurrency.executors import in_own_thread
from graviton.ports.kv import Durability, ReadTransaction, Transaction
from tests.unit.rocksdb.stores import opened

MANY = [b"%05d" % n for n in range(1_000)]


def _everything(tx: ReadTransaction) -> tuple[Any, ...]:
    return (
        [value for _, value in tx.scan("a")],
        tx.get_many("a", MANY),
        [value for _, value in tx.scan("b", b"00", limit=20)],
        tx.get("b", MANY[0]),
        list(tx.scan("fresh")),
    )


def _expected(value: bytes) -> tuple[Any, ...]:
    return [value] * 1_000, [value] * 1_000, [value] * 20, value, []


def _write(value: bytes) -> Callable[[Transaction], None]:
    def fn(tx: Transaction) -> None:
        for namespace in ("a", "b"):
            tx.put_many(namespace, [(key, value) for key in MANY])

    return fn


async def test_a_view_stays_at_its_moment_through_many_writes(tmp_path: Path) -> None:
    async with opened(tmp_path / "kv", memtable_bytes=1 << 20) as store:
        await store.transact(_write(b"0"))
        begun, go_on = threading.Event(), threading.Event()

        def look(tx: ReadTransaction) -> list[tuple[Any, ...]]:
            first, second = tx.scan("a"), tx.scan("a")  # two in one namespace, stepped in turns
            found = [next(first)[1], next(second)[1]]
            begun.set()
            assert go_on.wait(30)
            found += [pair[1] for pair in zip(first, second, strict=True) for pair in pair]
            assert found == [b"0"] * 2_000
            return [_everything(tx), _everything(tx)]

        looking = asyncio.ensure_future(store.read(look))
        await in_own_thread(begun.wait, 30)
        for n in range(1, 6):
            await store.transact(_write(b"%d" % n))
            await store.put("fresh", b"%d" % n, b"")
            assert (await store.read(_everything))[:2] == _expected(b"%d" % n)[:2]
        go_on.set()
        assert await looking == [_expected(b"0")] * 2
        assert await store.namespaces() == ["a", "b", "fresh"]


async def test_views_of_any_age_are_whole_beside_a_busy_writer(tmp_path: Path) -> None:
    async with opened(tmp_path / "kv", memtable_bytes=1 << 20) as store:
        await store.transact(_write(b"0"))
        done = False

        async def write() -> None:
            nonlocal done
            for n in range(1, 40):
                await store.transact(_write(b"%d" % n), Durability.FULL if n % 4 == 0 else Durability.RELAXED)
            done = True

        async def read() -> int:
            last = 0
            while not done:
                found = await store.read(_everything)
                value = found[3]
                assert found == _expected(value)
                assert int(value) >= last, "time went backwards"
                last = int(value)
            return last

        await asyncio.gather(write(), read(), read(), read())


async def test_nothing_is_seen_before_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "kv") as store:
        await store.put("a", b"key", b"old")
        at_sync, go_on = threading.Event(), threading.Event()
        real = Database._sync

        def held(self: Database) -> None:
            at_sync.set()
            assert go_on.wait(30)
            real(self)

        monkeypatch.setattr(Database, "_sync", held)
        writing = asyncio.ensure_future(store.put("a", b"key", b"new"))
        await in_own_thread(at_sync.wait, 30)
        assert await store.get("a", b"key") == b"old"
        assert [pair async for pair in store.scan("a")] == [(b"key", b"old")]
        go_on.set()
        await writing
        assert await store.get("a", b"key") == b"new"


async def test_a_write_waits_for_no_reader_and_a_reader_for_no_write(tmp_path: Path) -> None:
    async with opened(tmp_path / "kv") as store:
        await store.put("a", b"key", b"0")
        go_on = threading.Event()
        looking = [asyncio.ensure_future(store.read(lambda tx: go_on.wait(30))) for _ in range(3)]
        await asyncio.wait_for(_some_writes(store), 10)
        begun = threading.Event()

        def slow(tx: Transaction) -> None:
            begun.set()
            go_on.wait(30)

        writing = asyncio.ensure_future(store.transact(slow))
        await in_own_thread(begun.wait, 30)
        assert await asyncio.wait_for(store.get("a", b"key"), 10) == b"9"
        go_on.set()
        await asyncio.gather(writing, *looking)


async def _some_writes(store: RocksKeyValueStore) -> None:
    for n in range(10):
        await store.put("a", b"key", b"%d" % n)
