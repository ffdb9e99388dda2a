"""The n-th system call fails, for n = 1, 2, 3 … until the operation passes."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from graviton.backends.filesystem import (
    FsBlockReclaimer,
    FsBlockStore,
    FsConfig,
    FsMutableObjectStore,
    FsObjectConfig,
)
from graviton.core.locators import Locator
from graviton.errors import GravitonError, IntegrityError, NotFound, PermissionDenied, StorageFull, Unavailable
from graviton.ports.blocks import CanonicalBlock
from tests.unit.filesystem.disks import FailingDisk
from tests.unit.filesystem.helpers import ALWAYS, batch, block, open_files, temp_files

EXPECTED = {
    errno.ENOSPC: StorageFull,
    errno.EIO: Unavailable,
    errno.EACCES: PermissionDenied,
    errno.EMFILE: Unavailable,
}
FORGIVEN = {"write_back", "rmdir"}
"""Calls whose failure changes nothing: a hint, and tidying up."""


async def outcome(operation: Awaitable[None], expected: tuple[type[GravitonError], ...]) -> GravitonError | None:
    try:
        await operation
    except expected as error:
        return error
    return None


async def fail_everywhere(
    tmp_path: Path, number: int, operation: Callable[[FailingDisk, Path], Awaitable[None]]
) -> set[str]:
    """Run `operation` with the n-th call failing until nothing fails any more; the names of the calls that failed."""
    failed: set[str] = set()
    for at in range(1, 400):
        disk = FailingDisk(at, number)
        place = tmp_path / f"{number}-{at}"
        place.mkdir()
        before = open_files()
        error = await outcome(operation(disk, place), (EXPECTED[number], IntegrityError))
        # Bytes that the disk cannot read are damage, which a put repairs; every other call may work another time.
        assert isinstance(error, IntegrityError) == (number == errno.EIO and disk.failed == "read")
        if error is None:
            unreadable_parent = number == errno.EACCES and disk.failed_args == (str(place),)  # see DurableFolders
            assert not disk.failed or disk.failed in FORGIVEN or unreadable_parent, f"{disk.failed} was swallowed"
        else:
            assert disk.failed, "failed without a cause"
            assert error.operation
            assert error.__cause__ is not None
        assert open_files() == before, f"{disk.failed} leaks descriptors"
        if disk.failed != "unlink":
            assert temp_files(place) == [], f"left after the failure of {disk.failed}"
        if not disk.failed:
            return failed
        failed.add(disk.failed)
    raise AssertionError("it never passed")


def putting(blocks: list[CanonicalBlock], with_syncfs: bool) -> Callable[[FailingDisk, Path], Awaitable[None]]:
    async def put(disk: FailingDisk, place: Path) -> None:
        config = FsConfig(place / "store", workers=1, fsync_workers=1, syncfs_min_files=8)
        store = FsBlockStore(config, disk=disk, syncfs=(lambda fd: disk.step("syncfs", ())) if with_syncfs else None)
        try:
            await store.put_blocks(blocks)
        finally:
            failed, disk.at = disk.failed, -1
            for one, there in zip(blocks, await store.exists_many([one.key for one in blocks]), strict=True):
                assert there or failed
                if there:
                    assert await store.get(one.key) == one.payload
            await store.put_blocks(blocks)  # the same object works again
            for one in blocks:
                assert await store.get(one.key) == one.payload
            await store.aclose()

    return put


@pytest.mark.parametrize("number", EXPECTED, ids=errno.errorcode.get)
async def test_put_of_one_block(tmp_path: Path, number: int) -> None:
    failed = await fail_everywhere(tmp_path, number, putting([block(b"hello")], with_syncfs=False))
    assert failed >= {"mkdir", "open_folder", "create", "write", "fsync", "close", "rename"}


@pytest.mark.parametrize("number", EXPECTED, ids=errno.errorcode.get)
async def test_put_of_larger_blocks(tmp_path: Path, number: int) -> None:
    failed = await fail_everywhere(tmp_path, number, putting(batch(3, 200_000), with_syncfs=False))
    assert failed >= {"create", "write", "fsync", "close", "rename"}


@pytest.mark.parametrize("number", EXPECTED, ids=errno.errorcode.get)
async def test_put_of_many_small_blocks(tmp_path: Path, number: int) -> None:
    failed = await fail_everywhere(tmp_path, number, putting(batch(9), with_syncfs=True))
    assert failed >= {"create", "write", "syncfs", "fsync", "close", "rename"}


async def test_get_and_list(tmp_path: Path) -> None:
    one = block(b"hello")

    async def get(disk: FailingDisk, place: Path) -> None:
        at, disk.at = disk.at, -1
        store = FsBlockStore(FsConfig(place), disk=disk)
        try:
            await store.put_blocks([one])
            disk.at, disk.count = at, 0
            assert await store.get(one.key) == b"hello"
            assert await store.exists(one.key)
            assert [key async for key in store.list()] == [one.key]
            assert [name async for name in store.temp_files()] == []
        finally:
            await store.aclose()

    failed = await fail_everywhere(tmp_path, errno.EIO, get)
    assert failed >= {"open", "fstat", "read", "stat", "scandir"}


async def test_trash_never_loses_the_block(tmp_path: Path) -> None:
    one = block(b"hello")

    async def there_and_back(disk: FailingDisk, place: Path) -> None:
        at, disk.at = disk.at, -1
        store = FsBlockStore(FsConfig(place), disk=disk)
        reclaimer = FsBlockReclaimer(store)
        try:
            await store.put_blocks([one])
            disk.at, disk.count = at, 0
            entry = await reclaimer.move_to_trash(one.key, 5)
            assert entry is not None
            assert await reclaimer.read_trash(entry) == b"hello"
            assert await reclaimer.put_back(entry) is True
            assert [entry async for entry in reclaimer.trash_entries()] == []
        finally:
            disk.at = -1
            entries = [entry async for entry in reclaimer.trash_entries(one.key)]
            assert await store.exists(one.key) != bool(entries), "exactly one copy, at every moment"
            for entry in entries:
                assert await reclaimer.put_back(entry) is True
            assert await store.get(one.key) == b"hello"
            await store.aclose()

    failed = await fail_everywhere(tmp_path, errno.EIO, there_and_back)
    assert failed >= {"stat", "mkdir", "rename", "fsync", "open", "read"}


async def test_objects(tmp_path: Path) -> None:
    async def work(disk: FailingDisk, place: Path) -> None:
        at, disk.at = disk.at, -1
        store = FsMutableObjectStore(FsObjectConfig(place / "objects"), disk=disk)
        old, new = Locator("file", "default", "a/old"), Locator("file", "default", "a/b/new")
        try:
            await store.put(old, b"old bytes")
            disk.at, disk.count = at, 0
            await store.put(old, [b"new ", b"bytes"])
            await store.copy(old, new)
            assert [piece async for piece in await store.get(new)] == [b"new bytes"]
            assert [stat.locator async for stat in store.list()] == [new, old]
            disk.only = ("unlink", "fsync")  # what follows them in a delete is tidying up
            assert await store.delete(new) is True
        finally:
            disk.at = -1
            assert [piece async for piece in await store.get(old)] in ([b"old bytes"], [b"new bytes"])
            try:
                assert [piece async for piece in await store.get(new)] == [b"new bytes"]
            except NotFound:
                pass
            await store.aclose()

    failed = await fail_everywhere(tmp_path, errno.EIO, work)
    assert failed >= {"create", "write", "fsync", "close", "rename", "copy", "unlink", "mkdir", "read_at", "scandir"}


async def test_file_whose_fsync_failed_never_gets_its_name(tmp_path: Path) -> None:
    one = block(b"hello")
    disk = FailingDisk(-1, errno.EIO, only=("fsync",))
    store = FsBlockStore(FsConfig(tmp_path), disk=disk)
    await store.put_blocks([block(b"first")])
    disk.count, disk.at = 0, 1  # the file; the folders are known to be durable
    with pytest.raises(Unavailable):
        await store.put_blocks([one], ALWAYS)
    assert await store.exists(one.key) is False
    assert temp_files(tmp_path) == []
    await store.aclose()


async def test_after_a_failed_folder_fsync_nothing_there_is_trusted(tmp_path: Path) -> None:
    one = block(b"hello")
    store = FsBlockStore(FsConfig(tmp_path), disk=(disk := FailingDisk(-1, errno.EIO, only=("fsync",))))
    await store.put_blocks([block(b"first")])
    disk.count, disk.at = 0, 2  # 1 is the file, 2 the folder
    with pytest.raises(Unavailable):
        await store.put_blocks([one])
    assert await store.exists(one.key) is True
    result = await store.put_blocks([one])
    assert result.fresh_bytes == 5, "it seemed to be there, but its name may not survive a crash"
    await store.aclose()


async def test_clean_up_that_fails_is_told_with_the_cause(tmp_path: Path) -> None:
    class Disk(FailingDisk):
        def step(self, name: str, args: tuple[object, ...]) -> None:
            if name in ("fsync", "unlink") and self.at > 0:
                raise OSError(errno.EIO, "planned")

    disk = Disk(-1, 0)
    store = FsBlockStore(FsConfig(tmp_path), disk=disk)
    await store.put_blocks([block(b"first")])
    disk.at = 1
    with pytest.raises(Unavailable) as caught:
        await store.put_blocks([block(b"hello")])
    assert any("could not be removed" in note for note in caught.value.__notes__)
    await store.aclose()
