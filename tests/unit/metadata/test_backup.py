"""Backup and restore: everything comes back, damage never does, and an interrupted restore is recognised."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.core.keys import BlockKey
from graviton.errors import AlreadyExists, ConfigError, Conflict, IntegrityError, NotFound, StorageFull, Unavailable
from graviton.metadata import backup, restore
from graviton.metadata.audit import audit
from graviton.metadata.backup import backup_metadata
from graviton.metadata.backup_format import BackupHeader, Encoder, Record, read_backup
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.marker import StoreMarker
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY, read_meta_side
from graviton.metadata.restore import restore_metadata
from graviton.metadata.rows import OWNERS, STORE, TOTALS, u64
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import Durability, KeyValueStore
from tests.unit.metadata.filled import MARKER, block, contents, fill, put
from tests.unit.metadata.readers import reader


def memory(_: Path) -> KeyValueStore:
    return InMemoryKeyValueStore()


def sqlite(path: Path) -> KeyValueStore:
    return SqliteKeyValueStore(SqliteConfig(path / "meta.sqlite"))


async def all_there(keys: Sequence[BlockKey]) -> list[bool]:
    return [True] * len(keys)


@pytest.fixture
async def saved(tmp_path: Path) -> Path:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    await backup_metadata(kv, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("source", [memory, sqlite])
@pytest.mark.parametrize("target", [memory, sqlite])
async def test_everything_comes_back_in_any_store(
    source: Callable[[Path], KeyValueStore], target: Callable[[Path], KeyValueStore], tmp_path: Path
) -> None:
    kv, copy = source(tmp_path / "a"), target(tmp_path / "b")
    session = await fill(kv)
    before = await contents(kv)
    written = await backup_metadata(kv, tmp_path / "file")
    assert (written.records, written.size) == (len(before), (tmp_path / "file").stat().st_size)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    result = await restore_metadata(copy, tmp_path / "file", blocks_exist=all_there)
    after = await contents(copy)
    marker = StoreMarker.decode(after[STORE, MARKER_KEY], "copy")
    assert (result.marker, result.records, result.ended_sessions, result.missing_blocks) == (marker, len(before), 1, 0)
    assert marker == MARKER._replace(metadata_id=marker.metadata_id)
    assert marker.metadata_id != MARKER.metadata_id
    changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    assert {place for place in changed if place[0] != TOTALS} == {(STORE, MARKER_KEY), (OWNERS, u64(session))}
    assert [finding async for finding in audit(copy)] == []
    await kv.aclose()
    await copy.aclose()


async def test_open_session_cannot_commit_in_the_restored_store(tmp_path: Path) -> None:
    kv, copy = InMemoryKeyValueStore(), InMemoryKeyValueStore()
    session = await fill(kv)
    await backup_metadata(kv, tmp_path / "file")
    await restore_metadata(copy, tmp_path / "file", blocks_exist=None)
    index = KvBlockIndex(copy)
    with pytest.raises(Conflict):
        await index.confirm(session, [block(50)])
    owner = await index.owner(session)
    assert owner is not None
    assert owner.state is OwnerState.ENDED
    await index.end(session)
    assert [found async for found in index.references(block(50))] == []


async def test_blocks_that_are_gone_are_written_by_the_next_put(tmp_path: Path) -> None:
    kv, copy = InMemoryKeyValueStore(), InMemoryKeyValueStore()
    await fill(kv)
    await backup_metadata(kv, tmp_path / "file")

    async def without_two(keys: Sequence[BlockKey]) -> list[bool]:
        return [key not in (block(2), block(110)) for key in keys]

    result = await restore_metadata(copy, tmp_path / "file", blocks_exist=without_two)
    assert result.missing_blocks == 3  # block 2 in two domains
    assert [finding async for finding in audit(copy)] == []
    index = KvBlockIndex(copy)
    states = [record.state for record in await index.records([block(1), block(2), block(110)]) if record]
    assert states == [BlockState.STORED, BlockState.DAMAGED, BlockState.DAMAGED]
    (opened,) = await index.open([[block(1), block(2)]])
    assert [claim.must_write for claim in opened.claims] == [False, True]


async def test_any_damage_is_noticed_before_anything_is_written(saved: Path) -> None:
    data = saved.read_bytes()
    for place in range(0, len(data), 41):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        saved.write_bytes(damaged)
        kv = InMemoryKeyValueStore()
        with pytest.raises(IntegrityError, match=r"byte [0-9]+"):
            await restore_metadata(kv, saved, blocks_exist=None)
        assert await kv.namespaces() == []


def test_every_byte_and_every_length_of_a_small_backup_count() -> None:
    encoder = Encoder()
    records = [Record("aa", b"k1", b""), Record("aa", b"k2", b"x" * 300), Record("bb", b"\x00", b"value")]
    data = encoder.header(BackupHeader("ab" * 16, 7)) + b"".join(map(encoder.record, records)) + encoder.trailer()
    assert list(read_backup(reader(data)))[1:] == records
    for length in range(len(data)):
        with pytest.raises(IntegrityError):
            list(read_backup(reader(data[:length])))
    with pytest.raises(IntegrityError, match="after its end"):
        list(read_backup(reader(data + b"\x00")))
    for place in range(len(data)):
        for flip in (0x01, 0x02, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[place] ^= flip
            with pytest.raises(IntegrityError):
                list(read_backup(reader(bytes(damaged))))


def test_newer_format_is_a_config_error() -> None:
    data = Encoder().header(BackupHeader("ab" * 16, 7))
    newer = data[:21] + (2).to_bytes(2, "big") + (2 ^ 0xFFFF).to_bytes(2, "big") + data[25:]
    with pytest.raises(ConfigError, match="version 2"):
        list(read_backup(reader(newer)))


def test_damaged_length_takes_no_memory() -> None:
    encoder = Encoder()
    data = encoder.header(BackupHeader("ab" * 16, 7)) + encoder.record(Record("aa", b"k", b"v"))
    huge = data[:-6] + b"\xff\xff\xff\xff" + data[-2:]
    asked: list[int] = []

    def read(count: int) -> bytes:
        asked.append(count)
        return source(count)

    source = reader(huge)
    with pytest.raises(IntegrityError):
        list(read_backup(read))
    assert max(asked) < 100


async def test_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    kv = InMemoryKeyValueStore()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(AlreadyExists):
        await backup_metadata(kv, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    await backup_metadata(kv, tmp_path / "file", overwrite=True)
    assert len(list(read_backup(reader((tmp_path / "file").read_bytes())))) == 1
    assert os.listdir(tmp_path) == ["file"]


async def test_failed_backup_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.os, "fsync", full)
    with pytest.raises(StorageFull):
        await backup_metadata(kv, tmp_path / "file")
    assert os.listdir(tmp_path) == []
    with pytest.raises(NotFound):
        await backup_metadata(kv, tmp_path / "missing/file")


async def test_a_temporary_file_that_cannot_be_removed_changes_nothing_of_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(backup.os, "unlink", broken)
    await backup_metadata(kv, tmp_path / "file")
    assert len(list(read_backup(reader((tmp_path / "file").read_bytes())))) > 1
    with monkeypatch.context() as also:
        also.setattr(backup.os, "fsync", broken)
        with pytest.raises(Unavailable):
            await backup_metadata(kv, tmp_path / "other")
    assert not (tmp_path / "other").exists()


async def test_cancelled_backup_leaves_nothing_and_ends_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_PROGRESS_EVERY", 1)
    kv = sqlite(tmp_path / "store")
    await fill(kv)
    loop, seen, going_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def progress(_records: int, _size: int) -> None:
        loop.call_soon_threadsafe(seen.set)
        asyncio.run_coroutine_threadsafe(going_on.wait(), loop).result()

    task = asyncio.create_task(backup_metadata(kv, tmp_path / "file", progress=progress))
    await seen.wait()
    task.cancel()
    await asyncio.sleep(0)
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(tmp_path) == ["store"]
    await asyncio.wait_for(kv.aclose(), 5)


async def test_a_backup_cancelled_while_it_is_published_is_not_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    begun, go_on = threading.Event(), threading.Event()
    real, used = os.fsync, list[bool]()

    def slow(fd: int) -> None:
        begun.set()
        assert go_on.wait(10.0)
        real(fd)  # fails if it was closed meanwhile
        used.append(True)

    monkeypatch.setattr(backup.os, "fsync", slow)
    before = threading.enumerate()
    task = asyncio.create_task(backup_metadata(kv, tmp_path / "file"))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.01)
    ended_early = task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert not ended_early
    assert left == []
    assert used == [True]
    assert os.listdir(tmp_path) == []


async def test_without_a_thread_nothing_is_backed_up_nor_restored(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    kv = InMemoryKeyValueStore()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match="thread"):
            await backup_metadata(kv, saved.with_name("another"))
        with pytest.raises(Unavailable, match="thread"):
            await restore_metadata(kv, saved, blocks_exist=None)
    await asyncio.sleep(0.01)
    assert os.listdir(saved.parent) == [saved.name]
    assert await kv.namespaces() == []


async def test_writers_go_on_during_a_backup_and_are_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_PROGRESS_EVERY", 1)
    kv = sqlite(tmp_path / "store")
    await fill(kv)
    before = await contents(kv)
    loop = asyncio.get_running_loop()
    done: list[Any] = []

    def progress(_records: int, _size: int) -> None:
        if not done:
            done.append(asyncio.run_coroutine_threadsafe(put(kv, 900, 901), loop).result())

    written = await backup_metadata(kv, tmp_path / "file", progress=progress)
    assert written.records == len(before)
    assert len(await contents(kv)) > len(before)
    await kv.aclose()


async def test_only_an_empty_store_is_restored_into(saved: Path) -> None:
    kv = InMemoryKeyValueStore()
    await put(kv, 1)
    before = await contents(kv)
    with pytest.raises(ConfigError, match="not empty"):
        await restore_metadata(kv, saved, blocks_exist=None)
    assert await contents(kv) == before


class Breaking(InMemoryKeyValueStore):
    """Fails at the n-th transaction."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    async def transact(self, fn: Any, durability: Durability = Durability.FULL) -> Any:
        if not self.left:
            raise StorageFull("no room")
        self.left -= 1
        return await super().transact(fn, durability)


async def test_restore_interrupted_anywhere_is_recognised_and_starts_over(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_BATCH_RECORDS", 10)
    whole = InMemoryKeyValueStore()
    await restore_metadata(whole, saved, blocks_exist=all_there)
    interrupted = 0
    for transactions in range(1, 10_000):
        kv = Breaking(transactions)
        try:
            await restore_metadata(kv, saved, blocks_exist=all_there)
        except StorageFull:
            interrupted += 1
        else:
            break
        with pytest.raises(ConfigError, match="did not come to its end"):
            await read_meta_side(kv, "here")
        with pytest.raises(ConfigError, match="half restored"):
            await backup_metadata(kv, saved.with_name("another"))
        kv.left = -1
        await restore_metadata(kv, saved, blocks_exist=all_there)
        assert (await contents(kv)).keys() == (await contents(whole)).keys()
        assert [finding async for finding in audit(kv)] == []
    assert interrupted > 10


async def test_of_two_restores_at_once_one_gives_up(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "_BATCH_RECORDS", 5)
    kv = InMemoryKeyValueStore()
    results = await asyncio.gather(
        *(restore_metadata(kv, saved, blocks_exist=all_there) for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(result, Conflict | ConfigError) for result in results) == 1
    assert await kv.get(STORE, RESTORING_KEY) is None
    assert [finding async for finding in audit(kv)] == []
    assert len(await KvBlobManifestRepo(kv).list()) == 3


async def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await restore_metadata(InMemoryKeyValueStore(), tmp_path / "nothing", blocks_exist=None)


async def test_empty_store_has_a_backup_too(tmp_path: Path) -> None:
    assert (await backup_metadata(InMemoryKeyValueStore(), tmp_path / "file")).records == 0
    result = await restore_metadata(InMemoryKeyValueStore(), tmp_path / "file", blocks_exist=all_there)
    assert (result.marker, result.records) == (None, 0)


async def test_restore_that_was_overtaken_writes_nothing_more(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_BATCH_RECORDS", 5)
    other = InMemoryKeyValueStore()
    await put(other, 800, 801)
    await backup_metadata(other, tmp_path / "other")
    kv = InMemoryKeyValueStore()
    overtaken: list[int] = []

    async def overtake(keys: Sequence[BlockKey]) -> list[bool]:
        if not overtaken:
            overtaken.append(1)
            await restore_metadata(kv, tmp_path / "other", blocks_exist=None)
        return [True] * len(keys)

    with pytest.raises(Conflict, match="took over"):
        await restore_metadata(kv, saved, blocks_exist=overtake)
    assert overtaken
    alone = InMemoryKeyValueStore()
    await restore_metadata(alone, tmp_path / "other", blocks_exist=None)
    assert await contents(kv) == await contents(alone)
