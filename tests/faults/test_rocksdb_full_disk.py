"""RocksDB on a disk that is really full, and gets room again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import graviton
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.errors import StorageFull
from graviton.ports.kv import Durability
from tests.faults.harness.mounts import fill, may_mount, mounted

needs_mount = pytest.mark.skipif(not may_mount(), reason="mounting needs root and a system that lets it")


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, request.param, 24 << 20) as place:
        yield place


def _opened(disk: Path) -> RocksKeyValueStore:
    return RocksKeyValueStore(RocksConfig(disk / "meta.rocks", memtable_bytes=1 << 20))


async def _fill_up(store: RocksKeyValueStore, acknowledged: set[bytes], durability: Durability) -> None:
    """Write until the disk is full."""
    for n in range(10_000):
        key = b"%s %06d" % (durability.value.encode(), n)
        await store.transact(lambda tx, key=key: tx.put("a", key, os.urandom(50_000)), durability)  # type: ignore[misc]
        acknowledged.add(key)
    raise AssertionError("the disk never got full")


async def _keys(store: RocksKeyValueStore) -> set[bytes]:
    return {key async for key, _ in store.scan("a")}


@needs_mount
@pytest.mark.parametrize("durability", Durability)
async def test_a_full_disk_refuses_writes_serves_reads_and_takes_writes_again(
    disk: Path, durability: Durability
) -> None:
    store, acknowledged = _opened(disk), set[bytes]()
    await store.put("a", b"first", b"value")
    acknowledged.add(b"first")
    hog = fill(disk, 4 << 20)
    with pytest.raises(StorageFull) as caught:
        await _fill_up(store, acknowledged, durability)
    assert "then try again" in caught.value.hint
    for _ in range(3):
        with pytest.raises(StorageFull):
            await store.transact(lambda tx: tx.put("a", b"refused", os.urandom(2 << 20)))
        assert acknowledged <= await _keys(store)
        assert await store.get("a", b"first") == b"value"
    hog.unlink()
    await store.put("a", b"after", b"room")
    acknowledged.add(b"after")
    assert acknowledged <= await _keys(store)
    await store.aclose()
    store = _opened(disk)
    assert acknowledged <= await _keys(store)
    assert await store.check() == []
    await store.aclose()


@needs_mount
async def test_a_store_is_opened_for_reading_where_there_is_no_room_to_write(disk: Path) -> None:
    store = _opened(disk)
    await store.put("a", b"first", b"value")
    await store.aclose()
    hog = fill(disk, 0)
    store = _opened(disk)
    assert await store.get("a", b"first") == b"value"
    with pytest.raises(StorageFull):
        await store.put("a", b"second", b"value")
    assert await _keys(store) == {b"first"}
    hog.unlink()
    await store.put("a", b"second", b"value")
    assert await _keys(store) == {b"first", b"second"}
    await store.aclose()


@needs_mount
async def test_a_store_that_cannot_be_made_for_want_of_room_leaves_nothing(disk: Path) -> None:
    hog = fill(disk, 16 << 10)
    store = _opened(disk)
    with pytest.raises(StorageFull):
        await store.put("a", b"key", b"value")
    await store.aclose()
    assert {found.name for found in disk.iterdir()} - {"lost+found"} == {"hog"}
    hog.unlink()


@needs_mount
async def test_a_put_into_a_whole_store_on_a_full_disk_is_refused_and_works_with_room(disk: Path) -> None:
    settings = Settings(fs_root=disk / "store", metadata="rocksdb", kernel=os.environ.get("GRAVITON_KERNEL", "auto"))
    async with Store(settings) as store:
        key = (await store.put(b"kept" * 1000)).key
        hog = fill(disk, 100 << 10)
        refused = await asyncio.gather(*(store.put(os.urandom(200_000)) for _ in range(3)), return_exceptions=True)
        assert {type(error) for error in refused} == {StorageFull}
        async with await store.get(key) as reader:
            assert await reader.read() == b"kept" * 1000
        hog.unlink()
        await store.put(b"after" * 1000)
    assert isinstance(key, graviton.BlobKey)
