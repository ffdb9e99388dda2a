"""Opening: one store per folder, what is no store, read-only looks, where nothing can be written."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore, _create, _opening
from graviton.concurrency.executors import in_own_thread
from graviton.errors import ConfigError, IntegrityError, NotFound, PermissionDenied, Unavailable
from graviton.metadata.local_files import sync_folder
from graviton.ports.kv import Durability, ReadTransaction
from tests.unit.rocksdb.stores import keys, opened


async def test_a_second_store_of_the_process_is_refused_and_may_wait(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    link = tmp_path / "link"
    async with opened(path) as store:
        await store.put("a", b"key", b"value")
        link.symlink_to(path)
        for other in (path, link):
            async with opened(other) as second:
                with pytest.raises(Unavailable, match="another store of this process") as caught:
                    await second.get("a", b"key")
                assert "--lock-wait" in caught.value.hint
                with pytest.raises(Unavailable):
                    await second.put("a", b"key", b"changed")
        async with opened(path, lock_wait_seconds=30) as patient:
            waiting = asyncio.ensure_future(patient.get("a", b"key"))
            await asyncio.sleep(0.15)
            assert not waiting.done()
            await store.aclose()
            assert await waiting == b"value"


async def test_whoever_waits_for_the_lock_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path) as store:
        await store.put("a", b"key", b"value")
        async with opened(path, lock_wait_seconds=300) as patient:
            for call in (patient.get("a", b"key"), patient.put("a", b"key", b"")):
                waiting = asyncio.ensure_future(call)
                await asyncio.sleep(0.1)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(waiting, 5)
        assert await store.get("a", b"key") == b"value"


async def test_calls_that_wait_for_the_lock_wait_together(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path) as store:
        await store.put("a", b"key", b"value")
        async with opened(path, lock_wait_seconds=1.0, max_readers=2, group_limit=1) as patient:
            began = time.monotonic()
            calls = [patient.get("a", b"key") for _ in range(8)] + [patient.put("a", b"key", b"") for _ in range(4)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {Unavailable}
            assert "after waiting 1 s" in str(outcomes[0])
            assert 0.9 < time.monotonic() - began < 3, "each waited for itself"


async def test_each_of_those_who_wait_for_the_lock_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path) as store:
        await store.put("a", b"key", b"value")
        async with opened(path, lock_wait_seconds=300) as patient:
            reads = [asyncio.ensure_future(patient.get("a", b"key")) for _ in range(2)]
            writes = [asyncio.ensure_future(patient.put("a", b"%d" % n, b"")) for n in range(3)]
            await asyncio.sleep(0.2)
            for call in (reads[1], writes[1]):
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(call, 5)
            await store.aclose()
            assert await reads[0] == b"value"
            await asyncio.gather(writes[0], writes[2])
            assert [await patient.get("a", b"%d" % n) for n in range(3)] == [b"", None, b""]


async def test_closing_ends_the_wait_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path) as store:
        await store.put("a", b"key", b"value")
        patient = RocksKeyValueStore(RocksConfig(path, lock_wait_seconds=300))
        calls = [asyncio.ensure_future(call) for call in (patient.get("a", b"key"), patient.put("a", b"key", b""))]
        await asyncio.sleep(0.2)
        await asyncio.wait_for(patient.aclose(), 10)
        for call in calls:
            with pytest.raises(Unavailable, match="in use"):
                await call


async def test_a_second_close_returns_when_the_store_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    store = RocksKeyValueStore(RocksConfig(path))
    await store.put("a", b"key", b"value")
    reading, go_on = threading.Event(), threading.Event()

    def read(tx: ReadTransaction) -> None:
        reading.set()
        go_on.wait(30)

    looking = asyncio.ensure_future(store.read(read))
    await in_own_thread(reading.wait, 30)
    closing = [asyncio.ensure_future(store.aclose()) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert not any(one.done() for one in closing)
    go_on.set()
    await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
    assert await keys(path) == [b"key"], "one of them returned too early"
    await asyncio.gather(looking, *closing)


async def test_an_error_or_a_scan_that_somebody_keeps_does_not_keep_the_store_open(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    kept: list[object] = []
    async with opened(path) as store:
        await store.transact(lambda tx: tx.put_many("a", [(b"%03d" % n, b"") for n in range(300)]))

        def keep(tx: object) -> None:
            scan = tx.scan("a")  # type: ignore[attr-defined]
            next(scan)
            kept.extend((tx, scan))
            raise ValueError("planned")

        for call in (store.read(keep), store.transact(keep)):
            with pytest.raises(ValueError, match="planned") as caught:
                await call
            kept.append(caught.value)
    assert len(await keys(path)) == 300
    with pytest.raises(Unavailable):
        list(kept[1])  # type: ignore[call-overload]


async def test_missing_stores_are_made_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "meta.rocks"
    async with opened(path, create=False) as store:
        with pytest.raises(NotFound):
            await store.get("a", b"key")
    assert not path.parent.exists()
    assert await keys(path) == []
    assert sorted(found.name for found in path.parent.iterdir()) == ["meta.rocks"]
    assert oct(path.stat().st_mode & 0o777) == "0o700"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert await keys(empty) == []


async def test_the_name_of_a_store_is_durable_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it was renamed, and the sync of the folder above it failed or never came."""
    path = tmp_path / "meta.rocks"
    fails, asked = True, 0

    def sync(folder: str) -> None:
        nonlocal asked
        asked += folder == str(tmp_path)
        if folder == str(tmp_path) and fails and path.exists():
            raise OSError(errno.EIO, "a planned failure")
        sync_folder(folder)

    for module in (_create, _opening):
        monkeypatch.setattr(module, "sync_folder", sync, raising=False)
    async with opened(path) as store:
        for _ in range(2):
            with pytest.raises(Unavailable, match="planned"):
                await store.put("a", b"key", b"value")
        fails, asked = False, 0
        await store.put("a", b"key", b"value")
        assert asked == 1


async def test_what_is_no_store_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_bytes(b"x")
    foreign = Rdict(str(tmp_path / "foreign"), Options(raw_mode=True))
    foreign[b"a"] = b"1"
    foreign.close()
    families = Rdict(str(tmp_path / "families"), Options(raw_mode=True))
    families.create_column_family("theirs", Options(raw_mode=True)).close()
    families.close()
    for name in ("file", "folder", "foreign", "families"):
        before = _contents(tmp_path / name)
        with pytest.raises(ConfigError, match=name):
            await keys(tmp_path / name)
        assert _contents(tmp_path / name) == before
    assert (tmp_path / "file").read_bytes() == b"x"
    assert os.listdir(tmp_path / "folder") == ["letter"]
    foreign = Rdict(str(tmp_path / "foreign"), Options(raw_mode=True))
    assert foreign[b"a"] == b"1"
    foreign.close()


def _contents(place: Path) -> dict[str, bytes]:
    return {str(found): found.read_bytes() for found in [place, *place.glob("*")] if found.is_file()}


async def test_a_lost_beginning_is_damage_and_not_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path) as store:
        await store.put("a", b"key", b"value")
    (path / "CURRENT").rename(tmp_path / "CURRENT")
    before = sorted(os.listdir(path))
    with pytest.raises(IntegrityError, match="CURRENT is missing") as caught:
        await keys(path)
    assert "meta restore" in caught.value.hint
    assert sorted(os.listdir(path)) == before
    (tmp_path / "CURRENT").rename(path / "CURRENT")
    assert await keys(path) == [b"key"]


async def test_a_read_only_look_takes_no_lock_and_touches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path) as store:
        await store.transact(lambda tx: tx.put_many("a", [(b"%03d" % n, b"") for n in range(100)]))
        before = {found.name: found.stat().st_mtime_ns for found in path.iterdir()}
        async with opened(path, read_only=True) as looker:
            assert len([key async for key, _ in looker.scan("a")]) == 100
            assert await looker.namespaces() == ["a"]
            with pytest.raises(PermissionDenied, match="reading only"):
                await looker.put("a", b"key", b"")
            await store.put("a", b"later", b"")
            assert await looker.get("a", b"later") is None, "it shows the moment at which it was opened"
            after = {found.name: found.stat().st_mtime_ns for found in path.iterdir()}
            assert {name for name in after if after[name] != before.get(name)} <= {
                found.name for found in path.glob("*.log")
            }
        assert await store.get("a", b"later") == b""
        await store.put("a", b"still", b"")
    assert len(await keys(path)) == 102


async def test_a_look_keeps_its_moment_while_the_store_is_compacted(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    async with opened(path, memtable_bytes=1 << 20) as store:

        async def write(value: bytes) -> None:
            for n in range(0, 400, 20):
                pairs = [(b"%04d" % k, value * 40) for k in range(n, n + 20)]
                await store.transact(lambda tx, pairs=pairs: tx.put_many("a", pairs), Durability.RELAXED)  # type: ignore[misc]

        old = os.urandom(100)
        await write(old)
        _, families = store._shared._database.roots()  # type: ignore[union-attr]
        family = families["a"].data
        family.flush()
        tables = {found for found in path.glob("*.sst") if found.stat().st_size > 10_000}
        assert tables
        async with opened(path, read_only=True) as looker:
            assert await looker.get("a", b"0000") == old * 40
            for _ in range(8):
                await write(os.urandom(100))
            family.flush()
            family.compact_range(None, None)
            assert not tables & set(path.glob("*.sst")), "no table was removed: the test is too easy"
            assert {value async for _, value in looker.scan("a")} == {old * 40}


async def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"max_readers": 0}, {"memtable_bytes": 1}, {"block_cache_bytes": 1}, {"bloom_bits_per_key": 33},
        {"lock_wait_seconds": -1}, {"max_open_files": 5}, {"max_log_bytes": 0}, {"group_limit": 0},
        {"stall_timeout_seconds": 1e9},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            RocksConfig(tmp_path, **wrong)  # type: ignore[arg-type]
    for path in ("", "a\x00b", "\udcff"):
        with pytest.raises(ConfigError):
            RocksConfig(Path(path)) if path else RocksConfig("")  # type: ignore[arg-type]


async def test_a_store_that_is_forgotten_gives_its_folder_back(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    store = RocksKeyValueStore(RocksConfig(path))
    assert await store.get("a", b"key") is None
    del store
    assert await keys(path, lock_wait_seconds=10) == []


async def test_a_close_that_is_cancelled_closes_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "meta.rocks"
    store = RocksKeyValueStore(RocksConfig(path))
    await store.put("a", b"key", b"value")
    reading, go_on = threading.Event(), threading.Event()

    def read(tx: ReadTransaction) -> bytes | None:
        reading.set()
        go_on.wait(30)
        return tx.get("a", b"key")

    looking = asyncio.ensure_future(store.read(read))
    await in_own_thread(reading.wait, 30)
    closing = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0.05)
    closing.cancel()
    await asyncio.sleep(0.05)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert await looking == b"value"
    assert await keys(path) == [b"key"]
