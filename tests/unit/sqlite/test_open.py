"""Opening: what is created, what is refused and left untouched."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.backends.sqlite import _create as create
from graviton.concurrency.executors import in_own_thread
from graviton.errors import (
    ConfigError,
    GravitonError,
    IntegrityError,
    NotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
)
from graviton.metadata import local_files
from graviton.ports.kv import ReadTransaction
from tests.unit.filesystem.places import can_mount, make_read_only, make_writable, small_disk
from tests.unit.sqlite.connections import stepping

needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root, to mount")


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


async def made(path: Path) -> None:
    store = SqliteKeyValueStore(SqliteConfig(path))
    await store.put("a", b"key", b"value")
    await store.aclose()


async def test_new_store_has_its_modes_numbers_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/meta.sqlite"
    await made(path)
    assert [found.name for found in path.parent.iterdir()] == ["meta.sqlite"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (0x47726176,)
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA page_size").fetchone() == (4096,)


@pytest.mark.parametrize("step", ["_initialise", "_sync", "sync_folder"])
async def test_a_store_that_cannot_be_made_leaves_no_folder_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(path: str, *rest: object) -> None:
        if "new" in path:
            raise OSError(errno.ENOSPC, "full")

    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(local_files if step == "sync_folder" else create, step, full)
    with pytest.raises(StorageFull):
        await made(tmp_path / "theirs/new/folder/meta.sqlite")
    assert os.listdir(tmp_path) == ["theirs"]
    assert os.listdir(tmp_path / "theirs") == []


async def test_files_beside_the_store_are_private_too(tmp_path: Path) -> None:
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"))
    await store.put("a", b"key", b"value")
    for name in ("meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    await store.aclose()


async def test_making_the_object_and_closing_it_touches_nothing(tmp_path: Path) -> None:
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "x/meta.sqlite"))
    await store.aclose()
    assert list(tmp_path.iterdir()) == []


async def test_without_create_a_missing_store_is_not_found_and_stays_missing(tmp_path: Path) -> None:
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "x/meta.sqlite", create=False))
    with pytest.raises(NotFound):
        await store.get("a", b"key")
    with pytest.raises(NotFound):
        await store.put("a", b"key", b"value")
    assert list(tmp_path.iterdir()) == []
    await made(tmp_path / "x/meta.sqlite")
    assert await store.get("a", b"key") == b"value", "the same object finds it once it is there"
    await store.aclose()


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA application_id = 77")
        connection.execute("CREATE TABLE theirs (x)")


def _foreign_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE theirs (x)")


def _newer(path: Path) -> None:
    create.create_file(str(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


REFUSED: list[tuple[Callable[[Path], object], type[GravitonError]]] = [
    (_foreign, ConfigError),
    (_foreign_wal, ConfigError),
    (_newer, ConfigError),
    (lambda path: path.write_bytes(b"not a database, but long enough to be looked at" * 100), IntegrityError),
    (lambda path: path.write_bytes(b""), IntegrityError),
    (lambda path: path.write_bytes(b"SQLite format 3\x00"), IntegrityError),
]


@pytest.mark.parametrize(("prepare", "kind"), REFUSED)
async def test_what_is_not_ours_is_refused_untouched(
    tmp_path: Path, prepare: Callable[[Path], object], kind: type[GravitonError]
) -> None:
    path = tmp_path / "meta.sqlite"
    prepare(path)
    before = contents(tmp_path)
    store = SqliteKeyValueStore(SqliteConfig(path))
    for _ in range(2):
        with pytest.raises(kind) as caught:
            await store.get("a", b"key")
        with pytest.raises(kind):
            await store.put("a", b"key", b"value")
    assert str(path) in str(caught.value)
    assert caught.value.hint
    await store.aclose()
    assert contents(tmp_path) == before


async def test_many_creators_at_once_get_one_store(tmp_path: Path) -> None:
    stores = [SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite")) for _ in range(8)]
    await asyncio.gather(*(store.put("a", b"%d" % n, b"") for n, store in enumerate(stores)))
    for store in stores:
        assert len([pair async for pair in store.scan("a")]) == 8
        await store.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["meta.sqlite"]


async def test_store_is_made_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    await asyncio.gather(*(made(tmp_path / "meta.sqlite") for _ in range(4)))
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite", create=False))
    assert await store.get("a", b"key") == b"value"
    await store.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["meta.sqlite"]


async def test_opening_a_second_handle_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX drops all locks of a process on a file when any descriptor of it is closed: nobody may close one."""
    path = tmp_path / "meta.sqlite"
    first = SqliteKeyValueStore(SqliteConfig(path))
    await first.put("a", b"key", b"value")

    def locks() -> int:
        inode = f":{path.stat().st_ino} "
        return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())

    held = locks()
    assert held > 0
    second = SqliteKeyValueStore(SqliteConfig(path))
    await second.put("a", b"key", b"other")
    assert locks() >= held
    await second.aclose()
    assert locks() >= held
    await first.aclose()


@needs_mount
async def test_read_only_mount_can_be_read_after_a_clean_close(tmp_path: Path) -> None:
    path = tmp_path / "store/meta.sqlite"
    await made(path)
    make_read_only(path.parent)
    try:
        store = SqliteKeyValueStore(SqliteConfig(path))
        assert await store.get("a", b"key") == b"value"
        with pytest.raises(PermissionDenied):
            await store.put("a", b"key", b"changed")
        await store.aclose()
    finally:
        make_writable(path.parent)


@needs_mount
@pytest.mark.parametrize("with_index", [True, False])
async def test_read_only_mount_with_a_wal_is_read_with_it_or_refused(tmp_path: Path, with_index: bool) -> None:
    """What lies only in the WAL was acknowledged: to ignore it would be to lose it silently."""
    origin = tmp_path / "origin/meta.sqlite"
    store = SqliteKeyValueStore(SqliteConfig(origin))
    await store.put("a", b"key", b"in the wal only")
    copy = tmp_path / "copy/meta.sqlite"
    copy.parent.mkdir()
    for suffix in ("", "-wal", "-shm") if with_index else ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{origin}{suffix}").read_bytes())
    await store.aclose()
    make_read_only(copy.parent)
    try:
        reader = SqliteKeyValueStore(SqliteConfig(copy))
        if with_index:
            assert await reader.get("a", b"key") == b"in the wal only"
        else:
            with pytest.raises(Unavailable, match="-wal"):
                await reader.get("a", b"key")
        await reader.aclose()
    finally:
        make_writable(copy.parent)


@needs_mount
async def test_wal_of_a_store_behind_a_link_is_not_ignored_on_a_read_only_mount(tmp_path: Path) -> None:
    """SQLite follows the link before it names the WAL; looked for beside the link there is none, and `immutable` was
    used: what lay in the WAL was acknowledged, and was not there."""
    origin = tmp_path / "origin/meta.sqlite"
    store = SqliteKeyValueStore(SqliteConfig(origin))
    await store.put("a", b"key", b"in the wal only")
    copy = tmp_path / "copy/meta.sqlite"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{origin}{suffix}").read_bytes())
    await store.aclose()
    (copy.parent / "links").mkdir()
    link = copy.parent / "links/other-name.sqlite"
    link.symlink_to(copy)
    make_read_only(copy.parent)
    try:
        reader = SqliteKeyValueStore(SqliteConfig(link))
        with pytest.raises(Unavailable, match="-wal"):
            await reader.get("a", b"key")
        await reader.aclose()
    finally:
        make_writable(copy.parent)


async def test_store_behind_a_link_and_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Through the whole life: made, written until the WAL is moved, found again."""
    path = tmp_path / os.fsdecode(b"odd \xff?%41#.sqlite")
    link = tmp_path / "links" / "link.sqlite"
    link.parent.mkdir()
    link.symlink_to(path)
    await made(path)
    assert [found.name for found in tmp_path.glob("*.sqlite*")] == [path.name]
    log: list[str] = []
    for name in (path, link):
        store = SqliteKeyValueStore(SqliteConfig(name, checkpoint_pages=20), connect=stepping(log.append))
        for n in range(60):
            await store.put("a", b"%d" % n, b"x" * 2000)
        assert await store.get("a", b"key") == b"value"
        await store.aclose()
    assert 4 < log.count("PRAGMA wal_checkpoint(PASSIVE)") < 40
    assert [found.name for found in link.parent.iterdir()] == ["link.sqlite"]


async def test_immutable_is_never_used_where_somebody_can_write(tmp_path: Path) -> None:
    path = tmp_path / "meta.sqlite"
    await made(path)
    names: list[str] = []
    real = stepping(lambda sql: None)

    def refusing(name: str, config: SqliteConfig) -> sqlite3.Connection:
        names.append(name)
        if "immutable=1" not in name:
            error = sqlite3.OperationalError("planned")
            error.sqlite_errorcode = 14
            raise error
        return real(name, config)

    store = SqliteKeyValueStore(SqliteConfig(path), connect=refusing)
    with pytest.raises(GravitonError):
        await store.get("a", b"key")
    await store.aclose()
    looked, *opened = names
    assert looked.endswith("immutable=1")  # at the header only
    assert [name.rpartition("?")[2] for name in opened] == ["mode=rw", "mode=ro"]


@needs_mount
async def test_full_disk_at_creation_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8192) as place:
        (place / "filler").write_bytes(bytes(8192))
        store = SqliteKeyValueStore(SqliteConfig(place / "meta.sqlite"))
        with pytest.raises(GravitonError) as caught:
            await store.put("a", b"key", b"value")
        assert caught.value.code == "storage_full"
        assert [path.name for path in place.iterdir()] == ["filler"]
        await store.aclose()


@pytest.mark.parametrize(
    "wrong", [{"busy_timeout_seconds": -1}, {"max_readers": 0}, {"checkpoint_pages": 0}, {"group_limit": 0}]
)
def test_wrong_settings_are_config_errors(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        SqliteConfig(tmp_path / "x", **wrong)  # type: ignore[arg-type]


async def test_a_close_that_is_cancelled_closes_all_the_same(tmp_path: Path) -> None:
    """The writing thread went on for good, and the WAL stayed."""
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"))
    await store.put("a", b"key", b"value")
    reading, go_on = threading.Event(), threading.Event()

    def read(tx: ReadTransaction) -> None:
        reading.set()
        go_on.wait(30)

    looking = asyncio.ensure_future(store.read(read))
    await in_own_thread(reading.wait, 30)
    ending = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0.05)
    ending.cancel()
    await asyncio.sleep(0.05)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await looking
    assert os.listdir(tmp_path) == ["meta.sqlite"]
