from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.listing import HEADER, EntryType, ListingEntry, encode_listing
from graviton.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied, StorageFull
from graviton.services import tree_restore
from graviton.services.safe_folders import SafeFolders
from graviton.services.tree_put import TreePut
from graviton.services.tree_restore import RestoreResult, TreeRestore
from tests.unit.services.trees import Told, memory_store, snapshot

T = 1_600_000_000_123_456_789


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with memory_store() as store:
        yield store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


async def restore(store: Store, key: BlobKey, target: Path, told: Told | None = None, **options: bool) -> RestoreResult:
    return await TreeRestore(store, told or Told(target), **options).run(key, str(target))


def folder(path: bytes, mode: int = 0o755) -> ListingEntry:
    return ListingEntry(EntryType.DIRECTORY, path, mode, T)


def link(path: bytes, to: bytes) -> ListingEntry:
    return ListingEntry(EntryType.LINK, path, 0o777, T, target=to)


async def file(store: Store, path: bytes, data: bytes = b"data", mode: int = 0o644) -> ListingEntry:
    return ListingEntry(EntryType.FILE, path, mode, T, (await store.put(data)).key)


async def listed(store: Store, *entries: ListingEntry) -> BlobKey:
    return (await store.put(b"".join(encode_listing(entries)))).key


async def test_the_bytes_to_come_are_told_before_the_first_entry(store: Store, target: Path) -> None:
    class First(Told):
        def restored(self, path: str, entry: ListingEntry) -> None:
            assert self.total_bytes == 9
            super().restored(path, entry)

    told = First(target)
    entries = [await file(store, b"a"), folder(b"b"), await file(store, b"b/c", b"bytes"), link(b"d", b"a")]
    await restore(store, await listed(store, *entries), target, told)
    assert len(told.restored_paths) == 4


async def test_a_tree_comes_back_as_it_was(store: Store, tmp_path: Path, target: Path) -> None:
    root = tmp_path / "tree"
    for name in ("a/b/c", "a-b/x", "a.txt", "a/b.c", "z/y/x/w"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 100)
    (root / "empty").mkdir()
    (root / "link").symlink_to("a/b")
    (root / "nothing").symlink_to("/no/such/place")
    with open(os.fsencode(root) + b"/a/\xff\n\t", "wb") as odd:
        odd.write(b"odd")
    os.chmod(root / "a.txt", 0o400)
    os.chmod(root / "z/y/x/w", 0o751)
    for number, (path, _, names) in enumerate(os.walk(os.fsencode(root), topdown=False)):
        for name in names:
            os.utime(os.path.join(path, name), ns=(1, T + number), follow_symlinks=False)
        os.utime(path, ns=(1, T - number))
    os.chmod(root / "z/y", 0o500)
    done = await TreePut(store, Told(root)).run(str(root), frozenset(), T)
    told = Told(target)
    result = await restore(store, done.listing.key, target, told)
    assert told.failures == {}
    assert snapshot(target) == snapshot(root)
    assert (result.entries, result.failed) == (done.entries, 0)


async def test_many_files_and_folders_over_several_barriers(
    store: Store, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_restore, "BARRIER_ENTRIES", 7)
    monkeypatch.setattr(tree_restore, "LISTING_PIECE_BYTES", 100)
    entries = []
    for outer in range(10):
        entries.append(folder(b"%d" % outer, 0o555))
        entries += [await file(store, b"%d/%d" % (outer, inner), b"%d" % inner) for inner in range(10)]
    result = await restore(store, await listed(store, *entries), target)
    assert (result.files, result.failed, result.bytes) == (100, 0, 100)
    found = snapshot(target)
    assert len(found) == 110
    assert {item[1] for item in found.values() if item[0] == "folder"} == {0o555}
    assert {item[2] for item in found.values()} == {T}


async def test_restoring_again_changes_nothing_and_fails_nowhere(store: Store, target: Path) -> None:
    key = await listed(store, folder(b"d"), await file(store, b"d/f"), link(b"l", b"d"))
    await restore(store, key, target)
    before = snapshot(target)
    inode = (target / "d/f").stat().st_ino
    assert (await restore(store, key, target)).failed == 0
    assert snapshot(target) == before
    assert (target / "d/f").stat().st_ino == inode


@pytest.mark.parametrize("force", [False, True])
async def test_different_files_and_links_are_replaced_only_by_force(store: Store, target: Path, force: bool) -> None:
    (target / "f").write_bytes(b"mine")
    (target / "l").symlink_to("mine")
    (target / "d").write_bytes(b"mine")
    key = await listed(
        store, folder(b"d"), await file(store, b"d/in"), await file(store, b"f", b"data"), link(b"l", b"theirs")
    )
    told = Told(target)
    result = await restore(store, key, target, told, force=force)
    if force:
        assert (result.failed, told.failures) == (0, {})
        assert (target / "f").read_bytes() == b"data"
        assert os.readlink(target / "l") == "theirs"
        assert (target / "d/in").read_bytes() == b"data"
    else:
        assert sorted(told.failures) == ["d", "f", "l"], "what is below `d` is counted, and said once"
        assert result.failed == 4
        assert {type(error) for error in told.failures.values()} == {AlreadyExists}
        assert (target / "f").read_bytes() == (target / "d").read_bytes() == b"mine"
    assert not [name for name in os.listdir(target) if name.endswith(".tmp")]


@pytest.mark.parametrize("force", [False, True])
async def test_a_folder_is_never_replaced(store: Store, target: Path, force: bool) -> None:
    for name in ("f", "l"):
        (target / name).mkdir()
        (target / name / "mine").write_bytes(b"mine")
    key = await listed(store, await file(store, b"f"), link(b"l", b"x"))
    assert (await restore(store, key, target, force=force)).failed == 2
    assert (target / "f/mine").read_bytes() == (target / "l/mine").read_bytes() == b"mine"
    assert sorted(os.listdir(target)) == ["f", "l"]


@pytest.mark.parametrize("force", [False, True])
async def test_a_link_in_the_target_is_never_followed(store: Store, tmp_path: Path, target: Path, force: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o711)
    (outside / "file").write_bytes(b"precious")
    before = snapshot(tmp_path / "outside"), outside.stat().st_mode
    (target / "d").symlink_to(outside)
    (target / "deep").mkdir()
    (target / "deep/er").symlink_to("../../outside")
    (target / "file").symlink_to("../outside/file")
    key = await listed(
        store,
        folder(b"d", 0o700),
        await file(store, b"d/file", b"evil"),
        folder(b"deep"),
        folder(b"deep/er", 0o700),
        await file(store, b"deep/er/file", b"evil"),
        await file(store, b"file", b"evil"),
    )
    result = await restore(store, key, target, force=force)
    assert (snapshot(outside), outside.stat().st_mode) == before
    assert result.failed == (0 if force else 5)
    assert (target / "d").is_symlink() != force


async def test_a_link_put_there_while_restoring_is_not_followed(
    store: Store, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    key = await listed(store, folder(b"d"), folder(b"d/e"), await file(store, b"d/e/f", b"evil"))
    real = os.mkdir

    def mkdir(name: bytes, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        if name == b"e":
            os.rmdir(name, dir_fd=dir_fd)
            os.symlink(outside, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    told = Told(target)
    result = await restore(store, key, target, told)
    assert os.listdir(outside) == []
    assert result.failed >= 1
    assert "d/e/f" in told.failures


@pytest.mark.parametrize(
    "line",
    [
        b"f\t0644\t0\t0\tblake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262:0\t../x\n",
        b"d\t0755\t0\t-\t-\t/x\n",
        b"d\t0755\t0\t-\t-\ta/../x\n",
        b"l\t0777\t0\t-\t-\ta\t..\nd\t0755\t0\t-\t-\ta/x\n",
        b"d\t0755\t0\t-\t-\tx/y\n",
        b"d\t0755\t0\t-\t-\tx",
        b"d\t0755\t0\t-\t-\tx\nd\t0755\t0\t-\t-\tx\n",
        b"rubbish\n",
    ],
)
async def test_a_malformed_listing_touches_nothing(store: Store, tmp_path: Path, target: Path, line: bytes) -> None:
    good = b"d\t0755\t0\t-\t-\t0\n"
    key = (await store.put(HEADER + good + line)).key
    with pytest.raises(InvalidInput, match="line"):
        await restore(store, key, target)
    assert os.listdir(tmp_path) == ["target"]
    assert os.listdir(target) == []


async def test_an_empty_blob_is_no_listing(store: Store, target: Path) -> None:
    key = (await store.put(b"")).key
    with pytest.raises(InvalidInput):
        await restore(store, key, target)


async def test_set_id_bits_need_a_wish(store: Store, tmp_path: Path) -> None:
    key = await listed(store, folder(b"d", 0o3777), await file(store, b"f", mode=0o6755))
    for keep, modes in ((False, (0o1777, 0o755)), (True, (0o3777, 0o6755))):
        place = tmp_path / str(keep)
        place.mkdir()
        await restore(store, key, place, keep_set_id=keep)
        assert tuple(stat.S_IMODE((place / name).stat().st_mode) for name in "df") == modes


async def test_a_blob_that_is_missing_fails_alone(store: Store, target: Path) -> None:
    lost = BlobKey(HashAlgo.BLAKE3.digest(b"lost"), 4)
    key = await listed(store, ListingEntry(EntryType.FILE, b"a", 0o644, T, lost), await file(store, b"b"))
    told = Told(target)
    assert (await restore(store, key, target, told)).failed == 1
    assert isinstance(told.failures["a"], NotFound)
    assert os.listdir(target) == ["b"]


async def test_names_the_file_system_refuses_fail_alone(store: Store, target: Path) -> None:
    key = await listed(store, await file(store, b"a" * 300), await file(store, b"b"))
    told = Told(target)
    assert (await restore(store, key, target, told)).failed == 1
    assert os.listdir(target) == ["b"]


async def test_a_deep_tree_needs_few_descriptors(store: Store, target: Path) -> None:
    depth = 200
    entries = [folder(b"/".join([b"d"] * level)) for level in range(1, depth + 1)]
    key = await listed(store, *entries, await file(store, b"/".join([b"d"] * depth + [b"f"])))
    assert (await restore(store, key, target)).failed == 0
    assert len(snapshot(target)) == depth + 1


async def test_a_full_disk_ends_it(store: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await listed(store, *[await file(store, b"%03d" % number) for number in range(100)])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(StorageFull):
        await restore(store, key, target)
    assert os.listdir(target) == []


async def test_what_may_not_be_written_is_reported(store: Store, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await listed(store, await file(store, b"f"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "fchmod", refuse)
    told = Told(target)
    await restore(store, key, target, told)
    assert isinstance(told.failures["f"], PermissionDenied)
    assert os.listdir(target) == []


async def test_cancelling_leaves_no_temporary_file_and_no_descriptor(
    store: Store, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await listed(store, *[await file(store, b"%03d" % number) for number in range(40)])
    before = len(os.listdir("/proc/self/fd"))
    stuck = asyncio.Event()

    async def never(*_: object) -> int:
        stuck.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("graviton.stores.streaming.CasBlobReader.write_to", never)
    running = asyncio.ensure_future(restore(store, key, target))
    await stuck.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert os.listdir(target) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_folders_open_through_real_folders_only(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/link").symlink_to("b")
    (tmp_path / "file").write_text("")
    before = len(os.listdir("/proc/self/fd"))
    with SafeFolders(str(tmp_path)) as folders:
        inode = os.stat(tmp_path / "a/b").st_ino
        for _ in range(2):
            assert os.fstat(folders.folder(b"a/b")).st_ino == inode
        fd, name = folders.parent(b"a/b/c")
        assert (os.fstat(fd).st_ino, name) == (inode, b"c")
        assert folders.parent(b"a")[1] == b"a"
        for path in (b"a/link", b"a/link/c", b"file", b"missing"):
            with pytest.raises(OSError, match=r"."):
                folders.folder(path)
    assert len(os.listdir("/proc/self/fd")) == before
