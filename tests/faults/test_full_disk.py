"""A disk that is really full, really read-only, and really somebody else's."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.metadata.backup import backup_metadata
from tests.faults.harness.bench import Bench, Figures
from tests.faults.harness.laws import temporary_files, unclean
from tests.faults.harness.mounts import fill, may_mount, mounted, remount
from tests.faults.harness.scenarios import GROUP, SMALL_BLOCKS, some_bytes

needs_mount = pytest.mark.skipif(not may_mount(), reason="mounting needs root and a system that lets it")
NOBODY = 65_534
KEPT = some_bytes("kept", 30_000)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, request.param, 12 << 20) as place:
        yield place


async def _made(root: Path) -> graviton.BlobKey:
    async with graviton.open(root, chunker=SMALL_BLOCKS) as store:
        return (await store.put(KEPT)).key


async def _reads(store: Store, key: graviton.BlobKey, data: bytes) -> None:
    async with await store.get(key) as reader:
        assert await reader.read() == data


async def _refused(work: object, codes: frozenset[str] = frozenset({"storage_full"})) -> bool:
    """Whether it was refused; with another error, or without advice, is a failure."""
    [error] = await asyncio.gather(work, return_exceptions=True)  # type: ignore[call-overload]
    if not isinstance(error, BaseException):
        return False
    assert isinstance(error, graviton.GravitonError), repr(error)
    assert error.code in codes, repr(error)
    assert error.hint, f"refused without advice: {error}"
    return True


async def _many(store: Store) -> None:
    async for _ in store.put_many(blob.data for blob in GROUP):
        pass


@needs_mount
async def test_a_full_disk_refuses_everything_and_nothing_is_left(disk: Path, figures: Figures, bench: Bench) -> None:
    """With room for nothing, then a little more each time: the end comes in the middle of every step."""
    root = disk / "store"
    refused = 0
    for room in range(0, 400 << 10, bench.reach.steps(40 << 10, 4 << 10)):
        blob = some_bytes(f"new-{room}", 120_000)
        key = await _made(root)
        async with graviton.open(root) as store:
            await _reads(store, key, KEPT)
            hog = fill(disk, room)
            refused += await _refused(store.put(blob))
            refused += await _refused(_many(store))
            refused += await _refused(backup_metadata(await store.metadata(), disk / "backup", overwrite=True))
            await _reads(store, key, KEPT)
            assert not temporary_files(disk), room
            hog.unlink()
            result = await store.put(blob)  # the same store object, once there is room again
            await _reads(store, result.key, blob)
            await store.delete(result.key)
            assert await unclean(store) == []
        shutil.rmtree(root)  # removed blobs leave blocks, which would fill the disk before the last amount
        figures.add("full disk: amounts of room")
    assert refused >= 3
    figures.add("full disk: refusals", refused)


@needs_mount
async def test_removing_on_a_full_disk(disk: Path) -> None:
    """Either it works or it says that it does not; never half."""
    root = disk / "store"
    key = await _made(root)
    async with graviton.open(root) as store:
        await _reads(store, key, KEPT)
        hog = fill(disk, 0)
        refused = await _refused(store.delete(key))
        assert (await store.stat(key) is not None) == refused
        hog.unlink()
        assert await store.delete(key) == refused
        assert await store.stat(key) is None
        assert await unclean(store) == []


@needs_mount
async def test_opening_a_store_on_a_full_disk_says_what_to_do(disk: Path) -> None:
    """SQLite needs 32 KiB for its -shm file even to read, so nothing can be read without that much room."""
    root = disk / "store"
    key = await _made(root)
    hog = fill(disk, 0)
    async with graviton.open(root) as store:
        assert await _refused(store.get(key))
        hog.unlink()
        await _reads(store, key, KEPT)


@needs_mount
async def test_a_store_cannot_begin_on_a_full_disk_and_can_later(disk: Path) -> None:
    hog = fill(disk, 0)
    async with graviton.open(disk / "store") as store:
        assert await _refused(store.put(KEPT))
        assert not temporary_files(disk)
        hog.unlink()
        await _reads(store, (await store.put(KEPT)).key, KEPT)


@needs_mount
async def test_a_read_only_mount_reads_and_refuses_writes(disk: Path) -> None:
    root = disk / "store"
    key = await _made(root)
    remount(disk, "ro")
    denied = frozenset({"permission_denied"})
    async with graviton.open(root) as store:
        await _reads(store, key, KEPT)
        assert [stat.key async for stat in store.list()] == [key]
        assert await unclean(store) == []
        assert await _refused(store.put(some_bytes("new", 3_000)), denied)
        assert await _refused(_many(store), denied)
        assert await _refused(store.delete(key), denied)
        await _reads(store, key, KEPT)
    remount(disk, "rw")
    async with graviton.open(root) as store:
        assert await store.delete(key)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
def test_somebody_without_permission(bench: Bench, mode: int) -> None:
    place = bench.place("put_small")
    for folder in (place.watch, place.watch.parent):
        os.chmod(folder, 0o755)
    for path in [place.root, *place.root.rglob("*")]:
        os.chmod(path, mode | (0o111 * path.is_dir() if mode else 0))
    outcome = bench.children.run("as_nobody", root=place.root, user=NOBODY)
    assert not outcome.of("foreign"), outcome
    assert outcome.of("put") == ["permission_denied"], outcome
    assert outcome.of("read") == ["permission_denied"], outcome  # SQLite reads only where it may make its -shm file
    shutil.rmtree(place.watch)
