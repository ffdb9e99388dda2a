"""The store marker: its bytes, the rules for a pair, and the file."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from pathlib import Path

import pytest

from graviton.backends.filesystem import marker as fs_marker
from graviton.backends.filesystem.marker import FsMarkerStore
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.hashing import HashAlgo
from graviton.errors import AlreadyExists, ConfigError, IntegrityError, InvalidInput, StorageFull, Unavailable
from graviton.metadata.builtin_schemas import BUILTIN_SCHEMAS
from graviton.metadata.marker import MARKER_FILE, Decision, Side, StoreMarker, check_pair
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY, adopt, initialise, look
from graviton.metadata.rows import BLOCKS, STORE
from graviton.metadata.schema_store import KvSchemaStore
from graviton.testing.fake_clock import FakeClock

SPEC = "w16-v1:262144:1048576:4194304"
MARKER = StoreMarker("0" * 32, "1" * 32, HashAlgo.BLAKE3, SPEC, 1_700_000_000_000_000_000)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


def fields(**changes: object) -> bytes:
    values = json.loads(MARKER.encode()) | changes
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


def test_round_trip() -> None:
    assert StoreMarker.decode(MARKER.encode(), "x") == MARKER
    made = StoreMarker.create(HashAlgo.SHA256, "fixed-v1:1024", FakeClock())
    assert StoreMarker.decode(made.encode(), "x") == made
    assert made.store_id != made.metadata_id


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 4000,
        MARKER.encode() + b" " * 5000,
        MARKER.encode()[:-3],
        MARKER.encode().replace(b'"hash"', b'"store_id"'),
        fields(format_version=0),
        fields(format_version="1"),
        fields(format_version=True),
        fields(format_version=1.0),
        fields(format_version=None),
        fields(store_id="0" * 31),
        fields(store_id="G" * 32),
        fields(store_id=5),
        fields(metadata_id=None),
        fields(hash="md5"),
        fields(hash=[]),
        fields(chunker=""),
        fields(chunker="a b"),
        fields(chunker="x" * 257),
        fields(created_at="2026-1-31T12:00:00Z"),
        fields(created_at="1969-12-31T23:59:59Z"),
        fields(created_at=7),
        fields(another=1),
    ],
)
def test_malformed_marker_is_an_integrity_error_that_names_the_place(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="/some/place"):
        StoreMarker.decode(data, "/some/place")


@pytest.mark.parametrize("data", [fields(format_version=2), b'{"format_version": 99}'])
def test_newer_marker_is_a_config_error_that_names_the_place(data: bytes) -> None:
    with pytest.raises(ConfigError, match="/some/place"):
        StoreMarker.decode(data, "/some/place")


def test_chunker_text_is_checked() -> None:
    with pytest.raises(InvalidInput):
        StoreMarker.create(HashAlgo.BLAKE3, "two words", FakeClock())


OTHER_STORE = MARKER._replace(store_id="2" * 32)
OTHER_META = MARKER._replace(metadata_id="2" * 32)
EDITED = MARKER._replace(chunker="fixed-v1:1024")


@pytest.mark.parametrize(
    ("blocks", "blocks_empty", "meta", "meta_empty", "expected"),
    [
        (MARKER, False, MARKER, False, Decision.READY),
        (MARKER, True, MARKER, True, Decision.READY),
        (None, True, None, True, Decision.ABSENT),
        (None, True, MARKER, True, Decision.UNFINISHED),
        (None, True, MARKER, False, None),
        (None, False, MARKER, True, None),
        (None, False, MARKER, False, None),
        (MARKER, True, None, True, None),
        (MARKER, False, None, True, None),
        (MARKER, False, None, False, None),
        (None, False, None, True, None),
        (None, True, None, False, None),
        (OTHER_STORE, False, MARKER, False, None),
        (OTHER_META, False, MARKER, False, None),
        (EDITED, False, MARKER, False, None),
    ],
)
def test_every_pair_has_one_answer(
    blocks: StoreMarker | None,
    blocks_empty: bool,
    meta: StoreMarker | None,
    meta_empty: bool,
    expected: Decision | None,
) -> None:
    sides = Side("/the/blocks", blocks, blocks_empty), Side("/the/metadata", meta, meta_empty)
    if expected is not None:
        assert check_pair(*sides) is expected
        return
    with pytest.raises(ConfigError) as caught:
        check_pair(*sides)
    assert "/the/blocks" in caught.value.message
    assert "/the/metadata" in caught.value.message
    assert "graviton store adopt" in caught.value.hint


async def test_looking_creates_nothing(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path / "root")
    pair = await look(kv, "memory", markers, yes)
    assert (pair.decision, pair.marker) == (Decision.ABSENT, None)
    assert not (tmp_path / "root").exists()
    assert await kv.namespaces() == []


async def test_initialised_store_is_ready_and_describes_its_formats(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path / "a/b")
    marker, made = await initialise(kv, "memory", markers, yes, HashAlgo.BLAKE3, SPEC)
    assert made
    assert (tmp_path / "a/b" / MARKER_FILE).read_bytes() == marker.encode() == await kv.get(STORE, MARKER_KEY)
    assert os.listdir(tmp_path / "a/b") == [MARKER_FILE]
    assert await look(kv, "memory", markers, no) == (Decision.READY, marker, None)
    assert await initialise(kv, "memory", markers, no, HashAlgo.SHA256, "fixed-v1:1") == (marker, False)
    assert await KvSchemaStore(kv).names() == sorted(BUILTIN_SCHEMAS)


async def test_of_many_at_once_all_end_with_one_store(tmp_path: Path) -> None:
    kv = InMemoryKeyValueStore()
    results = await asyncio.gather(
        *(
            initialise(kv, "memory", FsMarkerStore(tmp_path / "root"), yes, HashAlgo.BLAKE3, f"fixed-v1:{1024 + n}")
            for n in range(16)
        )
    )
    assert len({marker for marker, _ in results}) == 1
    assert os.listdir(tmp_path / "root") == [MARKER_FILE]


async def test_unfinished_initialisation_is_finished_with_the_marker_that_is_there(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
    await kv.put(STORE, MARKER_KEY, MARKER.encode())
    assert (await look(kv, "memory", markers, yes)).decision is Decision.UNFINISHED
    assert await initialise(kv, "memory", markers, yes, HashAlgo.SHA256, "fixed-v1:1024") == (MARKER, True)


async def test_lost_or_foreign_sides_are_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
    await initialise(kv, "memory", markers, yes, HashAlgo.BLAKE3, SPEC)
    before = (tmp_path / MARKER_FILE).read_bytes()
    empty, foreign = InMemoryKeyValueStore(), InMemoryKeyValueStore()
    await initialise(foreign, "memory", FsMarkerStore(tmp_path / "other"), yes, HashAlgo.BLAKE3, SPEC)
    for stranger in (empty, foreign):
        with pytest.raises(ConfigError):
            await initialise(stranger, "memory", markers, no, HashAlgo.BLAKE3, SPEC)
    assert await empty.namespaces() == []
    assert (tmp_path / MARKER_FILE).read_bytes() == before


async def test_unmounted_folder_is_refused(tmp_path: Path) -> None:
    kv = InMemoryKeyValueStore()
    await initialise(kv, "memory", FsMarkerStore(tmp_path / "disk"), yes, HashAlgo.BLAKE3, SPEC)
    await kv.put(BLOCKS, b"\x00key", b"row")
    with pytest.raises(ConfigError, match="no store marker"):
        await initialise(kv, "memory", FsMarkerStore(tmp_path / "mount point"), yes, HashAlgo.BLAKE3, SPEC)
    assert not (tmp_path / "mount point").exists()


async def test_asking_whether_the_marker_may_be_written_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    markers = FsMarkerStore(tmp_path / "root")
    await markers.write_new(MARKER.encode())
    await markers.check_replace()
    assert os.listdir(tmp_path / "root") == [MARKER_FILE]

    def read_only(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "write", read_only)
    with pytest.raises(StorageFull):
        await markers.check_replace()
    assert os.listdir(tmp_path / "root") == [MARKER_FILE]
    assert await markers.read() == MARKER.encode()


async def test_a_folder_that_is_gone_is_not_made_to_replace_its_marker(tmp_path: Path) -> None:
    for write in (FsMarkerStore(tmp_path / "gone").check_replace(), FsMarkerStore(tmp_path / "gone").replace(b"new")):
        with pytest.raises(Unavailable):
            await write
        assert not (tmp_path / "gone").exists()


async def test_initialising_during_a_look_is_no_error(tmp_path: Path) -> None:
    """The other process initialises between our reads of the two sides, and stores its first block."""
    kv = InMemoryKeyValueStore()
    markers = FsMarkerStore(tmp_path)

    class Slow(FsMarkerStore):
        raced = False

        async def read(self) -> bytes | None:
            if not self.raced:
                self.raced = True
                await initialise(kv, "memory", markers, yes, HashAlgo.BLAKE3, SPEC)
            return await super().read()

    assert (await look(kv, "memory", Slow(tmp_path), no)).decision is Decision.READY


async def test_adopting_takes_what_the_metadata_says(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
    await kv.put(STORE, MARKER_KEY, MARKER.encode())
    await markers.write_new(OTHER_META.encode())
    assert await adopt(kv, "memory", markers, HashAlgo.BLAKE3, SPEC) == MARKER
    assert await look(kv, "memory", markers, no) == (Decision.READY, MARKER, None)


async def test_adopting_with_new_metadata_keeps_the_store_id_and_locks_the_old_one_out(tmp_path: Path) -> None:
    old, new, markers = InMemoryKeyValueStore(), InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
    before, _ = await initialise(old, "old", markers, yes, HashAlgo.BLAKE3, SPEC)
    after = await adopt(new, "new", markers, HashAlgo.SHA256, "fixed-v1:1024")
    assert after == before._replace(metadata_id=after.metadata_id)
    assert after.metadata_id != before.metadata_id
    assert (await look(new, "new", markers, no)).decision is Decision.READY
    with pytest.raises(ConfigError, match="restored or copied"):
        await look(old, "old", markers, no)


async def test_adopting_makes_both_markers_where_there_are_none(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
    await kv.put(BLOCKS, b"\x00key", b"row")
    marker = await adopt(kv, "memory", markers, HashAlgo.BLAKE3, SPEC)
    assert await look(kv, "memory", markers, no) == (Decision.READY, marker, None)


async def test_damaged_and_newer_markers_are_never_overwritten(tmp_path: Path) -> None:
    for data, kind in ((b"{}", IntegrityError), (fields(format_version=2), ConfigError)):
        kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
        (tmp_path / MARKER_FILE).write_bytes(data)
        for attempt in (
            look(kv, "memory", markers, yes),
            initialise(kv, "memory", markers, yes, HashAlgo.BLAKE3, SPEC),
            adopt(kv, "memory", markers, HashAlgo.BLAKE3, SPEC),
        ):
            with pytest.raises(kind, match=str(tmp_path)):
                await attempt
        assert (tmp_path / MARKER_FILE).read_bytes() == data
        assert await kv.namespaces() == []


async def test_half_restored_metadata_is_refused_everywhere(tmp_path: Path) -> None:
    kv, markers = InMemoryKeyValueStore(), FsMarkerStore(tmp_path)
    await kv.put(STORE, RESTORING_KEY, b"x")
    for attempt in (
        look(kv, "memory", markers, yes),
        initialise(kv, "memory", markers, yes, HashAlgo.BLAKE3, SPEC),
        adopt(kv, "memory", markers, HashAlgo.BLAKE3, SPEC),
    ):
        with pytest.raises(ConfigError, match="restore"):
            await attempt


async def test_file_is_never_overwritten_by_write_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(fs_marker.errno.EPERM, "no hard links here")

    for number in range(2):
        markers = FsMarkerStore(tmp_path / str(number))
        await markers.write_new(b"one")
        with pytest.raises(AlreadyExists):
            await markers.write_new(b"two")
        assert await markers.read() == b"one"
        await markers.replace(b"three")
        assert await markers.read() == b"three"
        assert os.listdir(tmp_path / str(number)) == [MARKER_FILE]
        monkeypatch.setattr(fs_marker.os, "link", no_links)


async def test_without_a_thread_no_marker_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call was queued: it was made with the next one."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    markers = FsMarkerStore(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match="thread"):
            await markers.write_new(b"one")
    assert await markers.read() is None
    assert os.listdir(tmp_path) == []


async def test_a_marker_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        begun.set()
        assert go_on.wait(10.0)

    monkeypatch.setattr(fs_marker.os, "fsync", slow)
    task = asyncio.ensure_future(FsMarkerStore(tmp_path).write_new(b"one"))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.01)
    ended_early = task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not ended_early
    assert os.listdir(tmp_path) == [MARKER_FILE]


async def test_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(fs_marker.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fs_marker.os, "fsync", full)
    with pytest.raises(StorageFull):
        await FsMarkerStore(tmp_path).write_new(b"one")
    assert os.listdir(tmp_path) == []


async def test_folder_in_the_place_of_the_file_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / MARKER_FILE).mkdir()
    with pytest.raises(ConfigError):
        await FsMarkerStore(tmp_path).read()
