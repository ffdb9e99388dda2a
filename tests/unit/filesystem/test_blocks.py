"""`FsBlockStore`: layout, order of system calls, what is in the way at a block's name."""

from __future__ import annotations

import asyncio
import mmap
import os
import stat
import threading
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockReclaimer, FsBlockStore, FsConfig
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError, InvalidInput, NotFound, Unavailable
from graviton.ports.blocks import BlockStatus, BlockWritePlan, CanonicalBlock
from tests.unit.chunking.kernels import NAMES, named
from tests.unit.filesystem.disks import RecordingDisk, ShortDisk
from tests.unit.filesystem.helpers import ALWAYS, batch, block, path_of, temp_files


async def test_layout_modes_and_plain_bytes(tmp_path: Path) -> None:
    root = tmp_path / "new/store"
    store = FsBlockStore(FsConfig(root))
    one, other = block(b"hello"), block(b"hello", HashAlgo.BLAKE3)
    await store.put_blocks([one, other])
    await store.aclose()
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    path = root / "cas" / "blocks" / "sha256" / f"{digest}-5"
    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    for folder in (root, root / "cas", root / "cas/blocks", root / "cas/blocks/sha256", root / "cas/blocks/blake3"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert path_of(root, other).read_bytes() == b"hello"


async def test_reading_creates_nothing(tmp_path: Path) -> None:
    store = FsBlockStore(FsConfig(tmp_path / "store"))
    with pytest.raises(NotFound):
        await store.get(block(b"x").key)
    assert await store.exists(block(b"x").key) is False
    assert [key async for key in store.list()] == []
    assert [entry async for entry in FsBlockReclaimer(store).trash_entries()] == []
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


def _order(disk: RecordingDisk, name: str, ending: str = "") -> list[int]:
    return [i for i, (call, args) in enumerate(disk.calls) if call == name and str(args[0]).endswith(ending)]


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_bytes_are_durable_before_the_name_and_the_name_before_the_end(tmp_path: Path, count: int) -> None:
    disk = RecordingDisk()
    store = FsBlockStore(FsConfig(tmp_path / "store"), disk=disk)
    await store.put_blocks(batch(count))
    await store.aclose()
    folder = str(tmp_path / "store/cas/blocks/sha256")
    synced = {args[0]: i for i, (call, args) in enumerate(disk.calls) if call == "fsync"}
    renames = [(i, args) for i, (call, args) in enumerate(disk.calls) if call == "rename"]
    assert len(renames) == count
    for i, (temp, _, _, _) in renames:
        assert synced[f"{folder}/{temp}"] < i, "renamed before its bytes were durable"
        assert synced[folder] > i, "acknowledged before its name was durable"
    for path in (folder, *map(str, Path(folder).parents)):
        if path != folder and path.startswith(str(tmp_path)):
            assert path in synced, f"a new name in {path} was never made durable"


async def test_small_batch_is_one_syncfs_between_writes_and_renames(tmp_path: Path) -> None:
    disk = RecordingDisk()
    synced: list[tuple[int, str]] = []

    def syncfs(fd: int) -> None:
        synced.append((len(disk.calls), os.readlink(f"/proc/self/fd/{fd}")))

    store = FsBlockStore(FsConfig(tmp_path / "store"), disk=disk, syncfs=syncfs)
    await store.put_blocks(batch(100))
    await store.put_blocks([block(b"alone")])
    await store.aclose()
    [(at, path)] = synced
    assert path == str(tmp_path / "store/cas/blocks/sha256")
    assert max(_order(disk, "write")[:100]) < at <= min(_order(disk, "rename"))
    assert max(_order(disk, "rename")[:100]) < max(_order(disk, "fsync", "sha256"))


async def test_syncfs_is_not_trusted_on_unknown_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.backends.filesystem._mounts.file_system_type", lambda device: "fuse.sshfs")
    disk, called = RecordingDisk(), []
    store = FsBlockStore(FsConfig(tmp_path / "store"), disk=disk, syncfs=called.append)
    await store.put_blocks(batch(50))
    await store.aclose()
    assert called == []
    assert len([1 for call, args in disk.calls if call == "fsync" and ".tmp" in args[0]]) == 50


async def test_duplicate_waits_for_the_name_of_who_wrote_it(tmp_path: Path) -> None:
    first = FsBlockStore(FsConfig(tmp_path))
    await first.put_blocks([block(b"x")])
    disk = RecordingDisk()
    second = FsBlockStore(FsConfig(tmp_path), disk=disk)
    result = await second.put_blocks([block(b"x")])
    assert result.stored[0].status is BlockStatus.DUPLICATE
    assert _order(disk, "fsync", "/sha256"), "the other writer may not have fsynced the folder yet"
    await first.aclose()
    await second.aclose()


async def test_truncated_block_is_written_again_even_if_absent_only(tmp_path: Path) -> None:
    store = FsBlockStore(FsConfig(tmp_path))
    one = block(b"hello")
    await store.put_blocks([one])
    path_of(tmp_path, one).unlink()
    path_of(tmp_path, one).write_bytes(b"hel")
    result = await store.put_blocks([one])
    assert result.stored[0].status is BlockStatus.FRESH
    assert await store.get(one.key) == b"hello"
    await store.aclose()


@pytest.mark.parametrize("most", [1, 3, 1000])
async def test_short_writes_and_reads_are_continued(tmp_path: Path, most: int) -> None:
    store = FsBlockStore(FsConfig(tmp_path), disk=ShortDisk(most))
    blocks = [block(os.urandom(2500)), block(b"y"), block(bytes(3000))]
    await store.put_blocks(blocks)
    for one in blocks:
        assert await store.get(one.key) == one.payload
    await store.aclose()


async def test_buffers_of_all_kinds_are_written_as_they_are(tmp_path: Path) -> None:
    store = FsBlockStore(FsConfig(tmp_path))
    data = os.urandom(10_000)
    with mmap.mmap(-1, 10_000) as mapped:
        mapped.write(data)
        with memoryview(mapped) as view:
            for payload in (bytearray(data[:5000]), memoryview(data)[1000:6000], view[2000:7000]):
                key = BlockKey(HashAlgo.SHA256.digest(bytes(payload)), 5000)
                await store.put_blocks([CanonicalBlock(key, payload)])
                assert await store.get(key) == bytes(payload)
            with pytest.raises(InvalidInput):
                await store.put_blocks([CanonicalBlock(key, view[0:10_000:2])])
            del payload
        await store.aclose()  # nothing may keep the view: leaving the mmap would raise BufferError


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "fifo", "truncated"])
async def test_what_is_no_block_at_its_name_is_an_integrity_error(tmp_path: Path, kind: str) -> None:
    store = FsBlockStore(FsConfig(tmp_path / "store"))
    one = block(b"hello")
    await store.put_blocks([one])
    path = path_of(tmp_path / "store", one)
    path.rename(tmp_path / "good")
    if kind in ("link", "dangling"):
        path.symlink_to(tmp_path / ("good" if kind == "link" else "nowhere"))
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b"hell")
    with pytest.raises(IntegrityError):
        await asyncio.wait_for(store.get(one.key), 10)
    if kind == "folder":
        with pytest.raises(IntegrityError):
            await store.put_blocks([one], ALWAYS)
    else:
        await store.put_blocks([one])
        assert await store.get(one.key) == b"hello"
        assert not path.is_symlink()
        assert (tmp_path / "good").read_bytes() == b"hello"
        assert not (tmp_path / "nowhere").exists()
    assert temp_files(tmp_path) == []
    await store.aclose()


async def test_left_over_temporary_files_are_found_and_removed(tmp_path: Path) -> None:
    store = FsBlockStore(FsConfig(tmp_path))
    await store.put_blocks([block(b"x")])
    folder = tmp_path / "cas/blocks/sha256"
    for session in ("", "abc", "a-b-c"):
        (folder / f".tmp-{session}-{'0123456789abcdef' * 2}"[:-8]).write_bytes(b"half")
    (folder / ".tmp-foreign").write_bytes(b"")
    found = [name async for name in store.temp_files()]
    assert sorted(name.session for name in found) == ["", "a-b-c", "abc"]
    for name in found:
        assert await store.remove_temp(name) is True
        assert await store.remove_temp(name) is False
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [".tmp-foreign"]
    for path in (path_of(tmp_path, block(b"x")), folder / ".tmp-foreign", tmp_path / f".tmp--{'0' * 24}"):
        with pytest.raises(InvalidInput):
            await store.remove_temp(found[0]._replace(path=str(path)))
    await store.aclose()


async def test_session_tag_is_in_the_temporary_name(tmp_path: Path) -> None:
    disk = RecordingDisk()
    store = FsBlockStore(FsConfig(tmp_path), disk=disk)
    await store.put_blocks([block(b"x")], BlockWritePlan(session="01-ab"))
    await store.aclose()
    [(temp, *_)] = [args for call, args in disk.calls if call == "rename"]
    assert temp.startswith(".tmp-01-ab-")


async def test_folder_removed_under_the_store_is_made_again(tmp_path: Path) -> None:
    import shutil

    store = FsBlockStore(FsConfig(tmp_path / "store"))
    await store.put_blocks([block(b"x")])
    shutil.rmtree(tmp_path / "store")
    await store.put_blocks([block(b"x")])
    assert await store.get(block(b"x").key) == b"x"
    await store.aclose()


async def test_use_after_fork_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsBlockStore(FsConfig(tmp_path))
    await store.put_blocks([block(b"x")])
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(Unavailable, match="fork"):
        await store.get(block(b"x").key)
    monkeypatch.undo()
    await store.aclose()


@pytest.mark.parametrize("kernel", NAMES)
async def test_large_batch_with_syncfs_on_the_real_system(tmp_path: Path, kernel: str) -> None:
    batches = named(kernel)
    store = FsBlockStore(FsConfig(tmp_path), syncfs=batches.syncfs, batches=batches)
    blocks = batch(1500)
    await store.put_blocks(blocks)
    assert await store.exists_many([one.key for one in blocks]) == [True] * 1500
    assert {key async for key in store.list()} == {one.key for one in blocks}
    await store.aclose()


async def test_forgotten_store_takes_its_threads_with_it(tmp_path: Path) -> None:
    import gc

    before = set(threading.enumerate())
    store = FsBlockStore(FsConfig(tmp_path))
    await store.put_blocks([block(b"x")])
    assert set(threading.enumerate()) != before
    del store
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(5.0)
    assert set(threading.enumerate()) <= before
