"""Group commit, durability levels, cancellation, long reads, damage."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.concurrency.executors import in_own_thread
from graviton.errors import GravitonError, IntegrityError, StorageFull, Unavailable
from graviton.ports.kv import Durability, ReadTransaction, Transaction
from tests.unit.filesystem.places import can_mount, small_disk
from tests.unit.sqlite.connections import sqlite_error, stepping

needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root, to mount a small file system")


def opened(tmp_path: Path, log: list[str] | None = None, **settings: float) -> SqliteKeyValueStore:
    config = SqliteConfig(tmp_path / "meta.sqlite", **settings)  # type: ignore[arg-type]
    return SqliteKeyValueStore(config, connect=stepping(log.append if log is not None else lambda sql: None))


class Gate:
    """Holds the writer thread, so that calls queue up behind it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, tx: ReadTransaction) -> None:
        self.begun.set()
        assert self.go_on.wait(10.0)


async def behind_a_gate(store: SqliteKeyValueStore, *calls: object) -> list[object]:
    """Start `calls` while the writer is busy, then let it go: they wait at the same moment."""
    gate = Gate()
    first = asyncio.ensure_future(store.transact(gate))
    await in_own_thread(gate.begun.wait, 10.0)
    tasks = [asyncio.ensure_future(call) for call in calls]  # type: ignore[call-overload]
    await asyncio.sleep(0.01)
    gate.go_on.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def failing(error: Exception, key: bytes = b"failed") -> object:
    def fn(tx: Transaction) -> None:
        tx.put("a", key, b"never")
        tx.put("new_namespace", key, b"never")
        raise error

    return fn


async def test_waiting_transactions_share_a_commit_and_failures_do_not(tmp_path: Path) -> None:
    log: list[str] = []
    store = opened(tmp_path, log)
    await store.put("a", b"first", b"")
    log.clear()
    outcome = await behind_a_gate(
        store,
        store.put("a", b"1", b""),
        store.transact(failing(ZeroDivisionError("mine"))),  # type: ignore[arg-type]
        store.put("b", b"2", b""),
        store.transact(lambda tx: tx.get("a", b"1")),
        store.transact(failing(KeyError("mine"))),  # type: ignore[arg-type]
    )
    assert [type(one) for one in outcome] == [type(None), ZeroDivisionError, type(None), bytes, KeyError]
    assert log.count("COMMIT") == 2  # the gate's, and one for all of them
    assert [pair async for pair in store.scan("a")] == [(b"1", b""), (b"first", b"")]
    assert await store.namespaces() == ["a", "b"]
    await store.aclose()


async def test_one_full_transaction_makes_its_group_full(tmp_path: Path) -> None:
    log: list[str] = []
    store = opened(tmp_path, log)
    await store.transact(lambda tx: tx.put("a", b"0", b""), Durability.RELAXED)
    assert "PRAGMA synchronous = NORMAL" in log
    log.clear()
    await behind_a_gate(
        store,
        store.transact(lambda tx: tx.put("a", b"1", b""), Durability.RELAXED),
        store.transact(lambda tx: tx.put("a", b"2", b""), Durability.FULL),
        store.transact(lambda tx: tx.put("a", b"3", b""), Durability.RELAXED),
    )
    begins = [i for i, sql in enumerate(log) if sql == "BEGIN IMMEDIATE"]
    assert len(begins) == 2
    assert "PRAGMA synchronous = NORMAL" not in log[: begins[1]]
    await store.aclose()


@pytest.mark.parametrize("level", Durability)
async def test_durability_is_the_fsync_at_commit(tmp_path: Path, level: Durability) -> None:
    store = opened(tmp_path)
    await store.put("a", b"first", b"")
    seen: list[int] = []

    def synchronous(tx: Transaction) -> None:
        tx.put("a", b"key", b"value")
        connection = tx._connection  # type: ignore[attr-defined]
        seen.append(connection.execute("PRAGMA synchronous").fetchone()[0])

    await store.transact(synchronous, level)
    assert seen == [2 if level is Durability.FULL else 1]
    await store.aclose()


async def test_transaction_that_sqlite_rolled_back_spoils_no_other(tmp_path: Path) -> None:
    """SQLITE_FULL inside one function undoes the whole group: the others are run again by themselves."""
    broken: list[sqlite3.Connection] = []

    def step(sql: str) -> None:
        if broken and sql.startswith("INSERT"):
            broken.pop().execute("ROLLBACK")
            raise sqlite_error(13, "SQLITE_FULL")

    config = SqliteConfig(tmp_path / "meta.sqlite")
    store = SqliteKeyValueStore(config, connect=stepping(step))
    await store.put("a", b"0", b"")
    runs = {"1": 0, "3": 0}

    def counting(key: str) -> object:
        def fn(tx: Transaction) -> int:
            runs[key] += 1
            tx.put("a", key.encode(), b"")
            return runs[key]

        return fn

    def unlucky(tx: Transaction) -> None:
        broken.append(tx._connection)  # type: ignore[attr-defined]
        tx.put("a", b"2", b"")

    outcome = await behind_a_gate(
        store,
        store.transact(counting("1")),  # type: ignore[arg-type]
        store.transact(unlucky),
        store.transact(counting("3")),  # type: ignore[arg-type]
    )
    assert outcome[0] == 2, "run again"
    assert isinstance(outcome[1], StorageFull)
    assert outcome[2] == 1
    assert [key async for key, _ in store.scan("a")] == [b"0", b"1", b"3"]
    await store.aclose()


async def test_swallowed_error_of_the_store_still_fails_the_transaction(tmp_path: Path) -> None:
    fail = [False]

    def step(sql: str) -> None:
        if fail[0] and sql.startswith("INSERT"):
            fail[0] = False
            raise sqlite_error(778, "SQLITE_IOERR_WRITE")

    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"), connect=stepping(step))
    await store.put("a", b"0", b"")

    def swallowing(tx: Transaction) -> str:
        tx.put("a", b"1", b"")
        fail[0] = True
        try:
            tx.put("a", b"2", b"")
        except GravitonError:
            pass
        try:
            tx.put("a", b"3", b"")
        except GravitonError:
            pass
        return "all well"

    with pytest.raises(Unavailable):
        await store.transact(swallowing)
    assert [key async for key, _ in store.scan("a")] == [b"0"]
    await store.aclose()


async def test_busy_names_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    store, impatient = opened(tmp_path), opened(tmp_path, busy_timeout_seconds=0.05)
    await impatient.put("a", b"0", b"")
    gate = Gate()
    writing = asyncio.ensure_future(store.transact(gate))
    await in_own_thread(gate.begun.wait, 10.0)
    with pytest.raises(Unavailable) as caught:
        await impatient.put("a", b"1", b"")
    assert str(tmp_path / "meta.sqlite") in str(caught.value)
    assert f"held by process {os.getpid()}" in str(caught.value)
    gate.go_on.set()
    await writing
    await store.aclose()
    await impatient.aclose()


async def test_long_reads_keep_their_snapshot_and_stop_nobody(tmp_path: Path) -> None:
    store = opened(tmp_path, max_readers=4)
    await store.put("a", b"key", b"old")
    gates = [Gate() for _ in range(3)]

    def long(gate: Gate) -> object:
        def fn(tx: ReadTransaction) -> tuple[bytes | None, bytes | None]:
            before = tx.get("a", b"key")
            gate(tx)
            return before, tx.get("a", b"key")

        return fn

    reads = [asyncio.ensure_future(store.read(long(gate))) for gate in gates]  # type: ignore[arg-type]
    for gate in gates:
        await in_own_thread(gate.begun.wait, 10.0)
    await store.put("a", b"key", b"new")
    assert await asyncio.wait_for(store.get("a", b"key"), 5) == b"new"
    for gate in gates:
        gate.go_on.set()
    assert await asyncio.gather(*reads) == [(b"old", b"old")] * 3
    await store.aclose()


async def test_kept_scan_and_kept_view_are_over_and_hold_no_snapshot(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.transact(lambda tx: tx.put_many("a", [(b"%d" % n, b"") for n in range(5)]))
    kept: list[object] = []

    def keep(tx: ReadTransaction) -> None:
        scan = tx.scan("a")
        next(scan)
        kept.extend((tx, scan))

    await store.read(keep)
    await store.transact(keep)
    for view, scan in (kept[:2], kept[2:]):
        with pytest.raises(Unavailable):
            view.get("a", b"1")  # type: ignore[attr-defined]
        with pytest.raises(Unavailable):
            next(scan)  # type: ignore[call-overload]
    await store.put("a", b"9", b"")
    with closing(sqlite3.connect(tmp_path / "meta.sqlite")) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "a snapshot is still held"
    await store.aclose()


@pytest.mark.parametrize("at", range(1, 8))
async def test_cancelled_at_every_statement_happens_or_not_as_a_whole(tmp_path: Path, at: int) -> None:
    reached, go_on, count = threading.Event(), threading.Event(), [-1000]

    def step(sql: str) -> None:
        count[0] += 1
        if count[0] == at:
            reached.set()
            assert go_on.wait(10.0)

    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"), connect=stepping(step))
    await store.put("a", b"0", b"")
    count[0] = 0

    def fn(tx: Transaction) -> None:
        for n in range(1, 4):
            tx.put("a", b"%d" % n, b"")

    task = asyncio.ensure_future(store.transact(fn))
    waiting = asyncio.get_running_loop().run_in_executor(None, reached.wait, 10.0)
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    stopped = not task.done()
    task.cancel()
    await asyncio.sleep(0)
    assert task.done() != stopped, "it returned while the transaction was open"
    count[0] = -1000
    reached.set()
    go_on.set()
    await waiting
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(result, asyncio.CancelledError) == stopped
    keys = [key async for key, _ in store.scan("a")]
    assert keys in ([b"0"], [b"0", b"1", b"2", b"3"])
    await store.put("a", b"9", b"")  # the thread is not left in a transaction
    await store.aclose()


async def test_every_flipped_bit_of_a_row_is_noticed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    rows = [(b"key %d" % n, os.urandom(100)) for n in range(50)]
    await store.transact(lambda tx: tx.put_many("a", rows))
    await store.aclose()
    path = tmp_path / "meta.sqlite"
    good = path.read_bytes()
    for key, value in rows[:10]:
        at = good.index(value)
        for offset in (0, 50, 99):
            bad = bytearray(good)
            bad[at + offset] ^= 1
            path.write_bytes(bad)
            store = opened(tmp_path)
            with pytest.raises(IntegrityError, match="checksum") as caught:
                await store.get("a", key)
            assert "restore" in caught.value.hint
            with pytest.raises(IntegrityError):
                [pair async for pair in store.scan("a")]
            await store.aclose()
    path.write_bytes(good)


async def test_random_damage_of_the_file_never_gives_a_wrong_value(tmp_path: Path) -> None:
    import random

    store = opened(tmp_path)
    rows = {b"%04d" % n: b"value %d " % n * (n % 40) for n in range(400)}
    await store.transact(lambda tx: tx.put_many("a", list(rows.items())))
    await store.aclose()
    path = tmp_path / "meta.sqlite"
    good = path.read_bytes()
    chosen = random.Random(7)
    noticed = 0
    for _ in range(150):
        bad = bytearray(good)
        at = chosen.randrange(len(bad))
        bad[at] ^= 1 << chosen.randrange(8)
        path.write_bytes(bad)
        store = opened(tmp_path)
        try:
            for key, value in [pair async for pair in store.scan("a")]:
                assert rows[key] == value
        except GravitonError:
            noticed += 1
        await store.aclose()
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
    assert noticed > 50


@needs_mount
async def test_full_disk_is_storage_full_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as place:
        store = SqliteKeyValueStore(SqliteConfig(place / "meta.sqlite"))
        stored = 0
        with pytest.raises(StorageFull):
            for n in range(1000):
                await store.put("a", b"%04d" % n, os.urandom(10_000))
                stored = n + 1
        assert stored > 10
        assert len([pair async for pair in store.scan("a")]) == stored
        await store.aclose()
        store = SqliteKeyValueStore(SqliteConfig(place / "meta.sqlite"))
        assert len([pair async for pair in store.scan("a")]) == stored
        await store.aclose()


async def test_use_after_fork_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    await store.put("a", b"key", b"value")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(Unavailable, match="fork"):
        await store.get("a", b"key")
    with pytest.raises(Unavailable, match="fork"):
        await store.put("a", b"key", b"value")
    monkeypatch.undo()
    await store.aclose()


async def test_sqlite_error_of_the_function_itself_is_not_taken_for_ours(tmp_path: Path) -> None:
    """It came back as a failure of the store, or as its damage."""
    store = opened(tmp_path)
    own = sqlite3.DatabaseError("of another database")

    def fn(tx: ReadTransaction) -> None:
        raise own

    outcome = await behind_a_gate(store, store.transact(fn), store.put("a", b"key", b""), store.read(fn))
    assert outcome == [own, None, own]
    await store.aclose()


async def test_without_a_thread_calls_fail_and_later_ones_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call raised RuntimeError, every later one and aclose waited for a thread that had never begun."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    store = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(Unavailable, match="thread") as caught:
                await store.put("a", b"refused", b"")
            assert caught.value.hint
            with pytest.raises(Unavailable, match="thread"):
                await store.get("a", b"key")
    await asyncio.wait_for(store.put("a", b"key", b"value"), 10.0)
    assert await asyncio.wait_for(store.get("a", b"refused"), 10.0) is None
    gate = Gate()
    with monkeypatch.context() as patch:
        reading = asyncio.ensure_future(store.read(gate))
        await in_own_thread(gate.begun.wait, 10.0)
        patch.setattr(threading.Thread, "start", refuse)
        waiting = asyncio.ensure_future(store.get("a", b"key"))  # no second reader to be had: it waits for the first
        await asyncio.sleep(0.01)
        gate.go_on.set()
        assert await asyncio.wait_for(waiting, 10.0) == b"value"
        await reading
        await store.aclose()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("graviton-sqlite")]


async def test_closing_waits_for_what_was_accepted(tmp_path: Path) -> None:
    store = opened(tmp_path)
    puts = [asyncio.ensure_future(store.put("a", b"%d" % n, b"")) for n in range(20)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*puts)
    again = opened(tmp_path)
    assert len([pair async for pair in again.scan("a")]) == 20
    await again.aclose()


@pytest.mark.parametrize("count", [1, 3, 70])
async def test_an_error_after_the_first_row_is_translated_too(tmp_path: Path, count: int) -> None:
    """`execute` goes as far as the first row; what is wrong with the next ones is told by `fetchall`, and once left the
    store as it was."""
    armed = False

    class Cursor(sqlite3.Cursor):
        def fetchall(self) -> list[object]:
            if armed:
                raise sqlite_error(sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT")
            return super().fetchall()

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
            return self.cursor(Cursor).execute(sql, *args)  # type: ignore[arg-type]

    def connect(name: str, config: SqliteConfig) -> sqlite3.Connection:
        made = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, factory=Connection)
        made.text_factory = bytes
        return made

    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"), connect=connect)
    keys = [b"%d" % number for number in range(count)]
    await store.transact(lambda tx: tx.put_many("a", [(key, b"value") for key in keys]))
    assert await store.read(lambda tx: tx.get_many("a", keys)) == [b"value"] * count
    armed = True
    with pytest.raises(IntegrityError):
        await store.read(lambda tx: tx.get_many("a", keys))
    with pytest.raises(IntegrityError):
        await store.namespaces()
    armed = False
    assert await store.read(lambda tx: tx.get_many("a", keys)) == [b"value"] * count
    await store.aclose()
