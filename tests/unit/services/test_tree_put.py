from __future__ import annotations

import asyncio
import gc
import io
import os
import random
import socket
import threading
from pathlib import Path

import pytest

from graviton.constraints.throttle import Throttle
from graviton.core.listing import EntryType, ListingEntry, decode_listing
from graviton.errors import InvalidInput, NotFound, StorageFull
from graviton.services import tree_put
from graviton.services.own_places import identities
from graviton.services.sources import open_regular
from graviton.services.tree_put import LISTING_MIME, TreePut, TreePutResult
from graviton.services.tree_walk import Found, TreeWalk
from graviton.testing.fake_clock import FakeClock
from tests.unit.services.trees import Told, memory_store

NOW = 1_700_000_000_000_000_000


async def put(root: Path, told: Told | None = None, **options: object) -> tuple[TreePutResult, list[ListingEntry]]:
    excluded = options.pop("excluded", frozenset())
    async with memory_store() as store:
        done = await TreePut(store, told or Told(root), **options).run(str(root), excluded, NOW)  # type: ignore[arg-type]
        async with await store.get(done.listing.key) as reader:
            return done, list(decode_listing([await reader.read()]))


def paths(entries: list[ListingEntry]) -> list[str]:
    return [os.fsdecode(entry.path) for entry in entries]


def grow(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)


async def test_every_entry_is_listed_in_order_with_what_it_is(tmp_path: Path) -> None:
    grow(tmp_path, "a/b", "a-b", "a/c/d", "empty/", "a.txt")
    (tmp_path / "link").symlink_to("nowhere")
    os.chmod(tmp_path / "a-b", 0o640)
    os.utime(tmp_path / "a-b", ns=(1, 1234567890123456789))
    told = Told(tmp_path)
    done, entries = await put(tmp_path, told)
    assert paths(entries) == ["a", "a-b", "a.txt", "a/b", "a/c", "a/c/d", "empty", "link"]
    assert done.entries == 8
    assert done.failed == 0
    assert sorted(told.stored_paths) == ["a-b", "a.txt", "a/b", "a/c/d"]
    file = entries[1]
    assert (file.mode, file.mtime_ns, file.size) == (0o640, 1234567890123456789, 3)
    assert entries[-1].target == b"nowhere"
    assert done.listing.attributes.mime == LISTING_MIME


async def test_the_same_tree_has_the_same_listing(tmp_path: Path) -> None:
    grow(tmp_path, "x", "y/z")
    first, _ = await put(tmp_path)
    second, _ = await put(tmp_path)
    assert first.listing.key == second.listing.key


async def test_an_empty_folder_is_an_empty_listing(tmp_path: Path) -> None:
    done, entries = await put(tmp_path)
    assert entries == []
    assert done.entries == 0


async def test_names_that_are_not_text_are_kept(tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b"tab\t", b"back\\slash", "ünï".encode(), b" ", b"-rf"]
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    _, entries = await put(tmp_path)
    assert [entry.path for entry in entries] == sorted(names)


async def test_pipes_and_sockets_are_skipped_with_a_note(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    told = Told(tmp_path)
    done, entries = await put(tmp_path, told)
    assert entries == []
    assert told.skips == {"pipe": "it is a pipe", "socket": "it is a socket"}
    assert done.failed == 0


@pytest.mark.parametrize("way", ["itself", "link", "file"])
async def test_what_belongs_to_the_store_is_never_read(tmp_path: Path, way: str) -> None:
    tree, own = tmp_path / "tree", tmp_path / "tree" / "deep" / "store"
    grow(tree, "deep/store/secret", "deep/other", "meta")
    excluded = identities([str(own), str(tree / "nothing")])
    if way == "link":
        (tree / "again").symlink_to("deep/store")
    if way == "file":
        excluded |= identities([str(tree / "meta")])
    told = Told(tree)
    _, entries = await put(tree, told, excluded=excluded, follow=way == "link")
    expected = {"itself": ["deep", "deep/other", "meta"], "link": ["deep", "deep/other", "meta"]}
    assert paths(entries) == expected.get(way, ["deep", "deep/other"])
    assert "deep/store" in told.skips
    assert not any("secret" in path for path in told.stored_paths)


@pytest.mark.parametrize("inside", [".", "cas", "cas/blocks"])
async def test_a_folder_of_the_store_is_no_tree(tmp_path: Path, inside: str) -> None:
    grow(tmp_path, "cas/blocks/b")
    with pytest.raises(InvalidInput, match="belongs to the store"):
        TreeWalk(str(tmp_path / inside), excluded=identities([str(tmp_path)]))


async def test_links_are_followed_when_asked(tmp_path: Path) -> None:
    grow(tmp_path, "real/file", "tree/own")
    (tmp_path / "tree" / "folder").symlink_to("../real")
    (tmp_path / "tree" / "name").symlink_to("../real/file")
    _, entries = await put(tmp_path / "tree", follow=True)
    assert paths(entries) == ["folder", "folder/file", "name", "own"]
    assert [entry.type for entry in entries if entry.path == b"name"] == [EntryType.FILE]


async def test_links_that_lead_back_or_nowhere_end_nothing(tmp_path: Path) -> None:
    grow(tmp_path, "a/file")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "dangling").symlink_to("missing")
    (tmp_path / "itself").symlink_to("itself")
    told = Told(tmp_path)
    done, entries = await put(tmp_path, told, follow=True)
    assert paths(entries) == ["a", "a/file"]
    assert sorted(told.failures) == ["a/up", "dangling", "itself"]
    assert done.failed == 3


async def test_a_very_deep_tree(tmp_path: Path) -> None:
    depth = 1500  # deeper than Python recurses and than a process may have descriptors
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    done, entries = await put(tmp_path)
    assert done.failed == 0
    assert len(entries) == depth
    _remove_deep(tmp_path, depth)


async def test_a_path_too_long_to_name_is_reported_and_left_out(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=fd)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    told = Told(tmp_path)
    done, entries = await put(tmp_path, told)
    assert len(entries) == 16
    assert done.failed == len(told.failures) == 1
    _remove_deep(tmp_path, 20)


def _remove_deep(root: Path, depth: int) -> None:
    """pytest's own clean-up names every folder from the top, which cannot be done here."""
    name = os.listdir(root)[0]
    here = os.getcwd()
    os.chdir(root)
    for _ in range(depth):
        os.chdir(name)
    for _ in range(depth):
        os.chdir("..")
        os.rmdir(name)
    os.chdir(here)


async def test_small_and_large_files_keep_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_put, "SMALL_BYTES", 100)
    monkeypatch.setattr(tree_put, "BATCH_FILES", 7)
    maker = random.Random(1)
    sizes = {f"{number:03}": maker.choice([0, 1, 50, 100, 101, 5000]) for number in range(60)}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(maker.randbytes(size))
    told = Told(tmp_path)
    _, entries = await put(tmp_path, told)
    assert {os.fsdecode(entry.path): entry.size for entry in entries} == sizes
    assert sorted(told.stored_paths) == sorted(sizes)
    assert told.changes == []


@pytest.mark.parametrize("small_bytes", [10, 256 * 1024])
async def test_a_file_that_changes_is_stored_as_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    monkeypatch.setattr(tree_put, "SMALL_BYTES", small_bytes)
    grow(tmp_path, "shrinking-file", "steady-file")

    monkeypatch.setattr("graviton.services.tree_walk.open_regular", _shrinking(tmp_path))
    told = Told(tmp_path)
    _, entries = await put(tmp_path, told)
    assert told.changes == ["shrinking-file"]
    assert [(entry.path, entry.size) for entry in entries] == [(b"shrinking-file", 3), (b"steady-file", 11)]


def _shrinking(root: Path):  # type: ignore[no-untyped-def]
    """`open_regular` beside which somebody truncates a file as soon as its size was seen."""

    def open_and_wait(path: bytes, **options: object):  # type: ignore[no-untyped-def]
        file = open_regular(path, **options)  # type: ignore[arg-type]
        if path == b"shrinking-file":
            real = os.fstat

            def once(fd: int) -> os.stat_result:
                os.fstat = real
                info = real(fd)
                os.truncate(root / "shrinking-file", 3)
                return info

            os.fstat = once
        return file

    return open_and_wait


async def test_a_file_that_vanishes_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(tmp_path, "a", "b", "c")

    def open_after_removal(path: bytes, **options: object) -> object:
        if path == b"b":
            (tmp_path / "b").unlink()
        return open_regular(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("graviton.services.tree_walk.open_regular", open_after_removal)
    told = Told(tmp_path)
    done, entries = await put(tmp_path, told)
    assert paths(entries) == ["a", "c"]
    assert isinstance(told.failures["b"], NotFound)
    assert done.failed == 1


async def test_a_large_file_that_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_put, "SMALL_BYTES", 1)
    grow(tmp_path, "good", "torn")

    class Torn(io.FileIO):
        def readinto(self, buffer: object, /) -> int:
            raise OSError(5, "Input/output error")

    def open_torn(path: bytes, **options: object) -> object:
        if path != b"torn":
            return open_regular(path, **options)  # type: ignore[arg-type]
        return Torn(str(tmp_path / "torn"))

    monkeypatch.setattr("graviton.services.tree_walk.open_regular", open_torn)
    told = Told(tmp_path)
    _, entries = await put(tmp_path, told)
    assert paths(entries) == ["good"]
    assert list(told.failures) == ["torn"]


async def test_an_error_of_the_store_ends_it_and_closes_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_put, "SMALL_BYTES", 1)
    grow(tmp_path, *"abcdefghij")
    before = len(os.listdir("/proc/self/fd"))
    async with memory_store() as store:

        async def full(*_: object) -> None:
            raise StorageFull("no room")

        monkeypatch.setattr(store, "put", full)
        with pytest.raises(StorageFull):
            await TreePut(store, Told(tmp_path)).run(str(tmp_path), frozenset(), NOW)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("times", [1, 2])
async def test_files_that_were_being_opened_when_it_was_cancelled_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, times: int
) -> None:
    """The batch of a read-ahead that had begun was lost: the garbage collector closed its files, with a warning."""
    monkeypatch.setattr(tree_put, "SMALL_BYTES", 0)
    monkeypatch.setattr(tree_put, "LARGE_AT_ONCE", 2)
    grow(tmp_path, "a", "b", "c", "d", "e")
    begun, go_on = threading.Event(), threading.Event()
    opened: list[io.FileIO] = []
    real = TreePut._read

    def slow(self: TreePut, found: Found, walk: TreeWalk) -> object:
        assert found.file is not None
        opened.append(found.file)
        if len(opened) == 2 * batch - 1:
            begun.set()
            assert go_on.wait(10.0)
        return real(self, found, walk)

    monkeypatch.setattr(TreePut, "_read", slow)
    putting = asyncio.ensure_future(put(tmp_path))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    for _ in range(times):
        putting.cancel()
        await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    del putting
    open_still = [file.name for file in opened if not file.closed]
    read_on = len(opened)
    opened.clear()
    gc.collect()  # tells of files that nobody closed
    assert open_still == []
    assert read_on == 2 * batch - 1  # nothing more was begun


async def test_a_limited_rate_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_put, "SMALL_BYTES", 100)
    (tmp_path / "large").write_bytes(b"x" * 1000)
    (tmp_path / "small").write_bytes(b"y" * 100)
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.advance(seconds)

    clock = FakeClock()
    throttle = Throttle(500, clock, sleep)
    _, entries = await put(tmp_path, throttle=throttle)
    assert [entry.size for entry in entries] == [1000, 100]
    assert 1.5 < sum(naps) < 3


@pytest.mark.parametrize("missing", [True, False])
async def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, missing: bool) -> None:
    root = tmp_path / "x"
    if not missing:
        root.write_text("")
    with pytest.raises(NotFound):
        await put(root)
