"""The write-ahead log: when it is moved into the file, and what follows from an error of the disk.

What a power cut leaves after such an error: tests/faults/test_failed_syncs.py.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.backends.sqlite._wal import Wal
from graviton.concurrency.executors import in_own_thread
from graviton.errors import StorageFull, Unavailable
from graviton.ports.kv import Durability, ReadTransaction
from tests.unit.sqlite.connections import sqlite_error, stepping

BEGIN = "BEGIN IMMEDIATE"
CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
MOVED = [BEGIN, CHECKPOINT, "ROLLBACK"]
MENDED = [BEGIN, "write again", "ROLLBACK", *MOVED]
LIMIT = 20
"""Pages after which these stores move the log."""
FSYNC, WRITE, FULL = (1034, "SQLITE_IOERR_FSYNC"), (778, "SQLITE_IOERR_WRITE"), (13, "SQLITE_FULL")


class Disk:
    """Fails the next statements of a kind, and keeps what was done: transactions, checkpoints, writing again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.failing: dict[str, tuple[int, str]] = {}
        self.broken: OSError | None = None
        write_again = Wal.write_again

        def write(wal: Wal) -> None:
            self.log.append("write again")
            if self.broken:
                raise self.broken
            write_again(wal)

        monkeypatch.setattr(Wal, "write_again", write)

    def step(self, sql: str) -> None:
        if sql in (BEGIN, "COMMIT", "ROLLBACK", CHECKPOINT):
            self.log.append(sql)
        if sql in self.failing:
            raise sqlite_error(*self.failing.pop(sql))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def opened(tmp_path: Path, disk: Disk, **settings: float) -> SqliteKeyValueStore:
    config = SqliteConfig(tmp_path / "meta.sqlite", checkpoint_pages=LIMIT, **settings)  # type: ignore[arg-type]
    return SqliteKeyValueStore(config, connect=stepping(disk.step))


async def fill(store: SqliteKeyValueStore, count: int = 1, level: Durability = Durability.FULL) -> None:
    """A page or two for each."""
    for n in range(count):
        await store.transact(lambda tx, n=n: tx.put("a", b"%d" % n, b"x" * 2000), level)  # type: ignore[misc]


async def settled(store: SqliteKeyValueStore) -> None:
    """The writer has done what it does after delivering results: it is at its next transaction."""
    await store.transact(lambda tx: None)


async def keys(store: SqliteKeyValueStore) -> list[bytes]:
    return [key async for key, _ in store.scan("a")]


def pages(tmp_path: Path) -> int:
    """What the log ever reached: SQLite does not make the file shorter."""
    return (tmp_path / "meta.sqlite-wal").stat().st_size // 4120


@pytest.mark.parametrize("level", Durability)
async def test_long_log_is_moved_and_begun_anew(tmp_path: Path, disk: Disk, level: Durability) -> None:
    store = opened(tmp_path, disk)
    await fill(store, 300, level)
    await settled(store)
    assert 5 < disk.log.count(CHECKPOINT) < 100
    assert pages(tmp_path) < 2 * LIMIT
    await store.aclose()


async def test_pages_of_other_handles_count(tmp_path: Path, disk: Disk) -> None:
    """Many short-lived writers, none of which writes much, beside one that holds the file open."""
    holder = opened(tmp_path, disk)
    await fill(holder)
    for _ in range(60):
        store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite", checkpoint_pages=LIMIT))
        await fill(store, 2)
        await store.aclose()
    assert pages(tmp_path) < 2 * LIMIT
    await holder.aclose()


async def test_results_do_not_wait_for_the_checkpoint(tmp_path: Path, disk: Disk) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def step(sql: str) -> None:
        if sql == CHECKPOINT and not go_on.is_set():
            reached.set()
            assert go_on.wait(10.0)

    config = SqliteConfig(tmp_path / "meta.sqlite", checkpoint_pages=1)
    store = SqliteKeyValueStore(config, connect=stepping(step))
    await asyncio.wait_for(store.put("a", b"key", b"value"), 5.0)
    assert await in_own_thread(reached.wait, 10.0)
    assert await store.get("a", b"key") == b"value"
    go_on.set()
    await store.aclose()


async def test_no_other_process_writes_during_a_checkpoint(tmp_path: Path, disk: Disk) -> None:
    """SQLite before 3.51.3 tears the file if somebody begins the log anew just then."""
    told: list[str] = []

    def step(sql: str) -> None:
        if sql == CHECKPOINT:
            with closing(sqlite3.connect(tmp_path / "meta.sqlite", timeout=0, isolation_level=None)) as other:
                try:
                    other.execute(BEGIN)
                    told.append("may write")
                except sqlite3.OperationalError as error:
                    told.append(str(error))

    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite", checkpoint_pages=LIMIT), connect=stepping(step))
    await fill(store, 60)
    await store.aclose()
    assert len(told) > 3
    assert set(told) == {"database is locked"}


async def test_log_that_a_reader_keeps_long_is_not_tried_at_every_commit(tmp_path: Path, disk: Disk) -> None:
    store = opened(tmp_path, disk)
    await fill(store)
    begun, go_on = threading.Event(), threading.Event()

    def long(tx: ReadTransaction) -> None:
        tx.get("a", b"0")
        begun.set()
        assert go_on.wait(30.0)

    reading = asyncio.ensure_future(store.read(long))
    await in_own_thread(begun.wait, 10.0)
    disk.log.clear()
    await fill(store, 200)
    await settled(store)
    grown = pages(tmp_path)
    assert grown > 200
    assert 3 < disk.log.count(CHECKPOINT) <= grown // LIMIT
    go_on.set()
    await reading
    await fill(store, 200)
    await settled(store)
    assert pages(tmp_path) <= grown + 2 * LIMIT, "it did not begin anew after the read"
    await store.aclose()


async def test_after_a_failed_sync_at_commit_the_log_is_written_again_at_once(tmp_path: Path, disk: Disk) -> None:
    store = opened(tmp_path, disk)
    await fill(store)
    disk.log.clear()
    disk.failing = {"COMMIT": FSYNC}
    with pytest.raises(Unavailable):
        await store.put("a", b"failed", b"")
    await store.put("a", b"next", b"")
    after = disk.log[disk.log.index("COMMIT") + 1 :]
    assert after[:7] == ["ROLLBACK", *MENDED]
    assert after.count("write again") == 1
    assert await keys(store) == [b"0", b"next"]
    await store.aclose()


@pytest.mark.parametrize("error", [FSYNC, WRITE])
async def test_failed_checkpoint_is_mended_and_nobody_notices(
    tmp_path: Path, disk: Disk, error: tuple[int, str]
) -> None:
    store = opened(tmp_path, disk)
    disk.failing = {CHECKPOINT: error}
    await fill(store, 100)
    await settled(store)
    assert disk.failing == {}
    failed = disk.log.index(CHECKPOINT)
    assert disk.log[failed + 1 : failed + 8] == ["ROLLBACK", *MENDED]
    assert disk.log.count("write again") == 1
    assert len(await keys(store)) == 100
    await store.aclose()


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, Unavailable), (errno.ENOSPC, StorageFull)])
async def test_nothing_is_committed_until_the_log_is_mended(
    tmp_path: Path, disk: Disk, number: int, kind: type[Exception]
) -> None:
    store = opened(tmp_path, disk)
    await fill(store)
    disk.broken = OSError(number, "planned")
    disk.failing = {"COMMIT": FSYNC}
    with pytest.raises(Unavailable):
        await store.put("a", b"failed", b"")
    disk.log.clear()
    for _ in range(3):
        with pytest.raises(kind, match="-wal") as caught:
            await store.put("a", b"refused", b"")
        assert caught.value.hint  # type: ignore[attr-defined]
    assert "COMMIT" not in disk.log
    assert 3 <= disk.log.count("write again") <= 4, "tried twice for one transaction"
    assert await keys(store) == [b"0"]
    disk.broken = None
    await store.put("a", b"next", b"")
    assert await keys(store) == [b"0", b"next"]
    await store.aclose()


async def test_mending_that_cannot_be_ended_is_told_and_done_again(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost with it: the next transaction has a new one, and mends first."""
    store = opened(tmp_path, disk)
    await fill(store)
    losses = 2  # once on its own, then for a transaction
    write_again = Wal.write_again

    def write(wal: Wal) -> None:
        nonlocal losses
        write_again(wal)
        if losses:
            losses -= 1
            disk.failing["ROLLBACK"] = WRITE

    monkeypatch.setattr(Wal, "write_again", write)
    disk.failing = {"COMMIT": FSYNC}
    with pytest.raises(Unavailable):
        await store.put("a", b"failed", b"")
    with pytest.raises(Unavailable):
        await store.put("a", b"refused", b"")
    assert losses == 0
    disk.log.clear()
    await store.put("a", b"next", b"")
    assert disk.log[: len(MENDED)] == MENDED
    assert await keys(store) == [b"0", b"next"]
    await store.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["meta.sqlite"]


async def test_checkpoint_without_room_loses_nothing_and_refuses_nothing(tmp_path: Path, disk: Disk) -> None:
    store = opened(tmp_path, disk)
    disk.failing = {CHECKPOINT: FULL}
    await fill(store, 100)
    await settled(store)
    assert disk.failing == {}
    assert "write again" not in disk.log
    assert len(await keys(store)) == 100
    await store.aclose()


async def test_mending_needs_no_reader_to_end(tmp_path: Path, disk: Disk) -> None:
    store = opened(tmp_path, disk, busy_timeout_seconds=0.05)
    await fill(store)
    begun, go_on = threading.Event(), threading.Event()

    def long(tx: ReadTransaction) -> bytes | None:
        before = tx.get("a", b"key")
        begun.set()
        assert go_on.wait(30.0)
        assert tx.get("a", b"key") == before
        return before

    await store.put("a", b"key", b"old")
    reading = asyncio.ensure_future(store.read(long))
    await in_own_thread(begun.wait, 10.0)
    await store.put("a", b"key", b"new")
    disk.failing = {"COMMIT": FSYNC}
    with pytest.raises(Unavailable):
        await store.put("a", b"key", b"failed")
    await store.put("a", b"next", b"")
    go_on.set()
    assert await reading == b"old"
    assert await store.get("a", b"key") == b"new"
    await store.aclose()


async def test_failed_checkpoint_at_close_is_mended_too(tmp_path: Path, disk: Disk) -> None:
    store = opened(tmp_path, disk)
    await fill(store, 3, Durability.RELAXED)
    disk.log.clear()
    disk.failing = {CHECKPOINT: FSYNC}
    await store.aclose()
    assert disk.log == [*MOVED, *MENDED]
    assert [path.name for path in tmp_path.iterdir()] == ["meta.sqlite"]
