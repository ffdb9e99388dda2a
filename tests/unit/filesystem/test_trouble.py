"""Full disks, other users, hostile links, and the small parts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockStore, FsConfig, FsMutableObjectStore, FsObjectConfig, folders
from graviton.backends.filesystem._mounts import file_system_type, syncfs_is_durable
from graviton.backends.filesystem._object_names import PART_BYTES, encode_path
from graviton.backends.filesystem.errors import mapped
from graviton.backends.filesystem.folders import folder_loads
from graviton.core.locators import Locator
from graviton.errors import (
    ConfigError,
    GravitonError,
    IntegrityError,
    NotFound,
    PermissionDenied,
    StorageFull,
    Unavailable,
)
from tests.unit.chunking.kernels import NAMES, named
from tests.unit.filesystem.helpers import batch, block, temp_files
from tests.unit.filesystem.places import can_mount, small_disk

needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root, to mount a small file system")


@needs_mount
@pytest.mark.parametrize("kernel", NAMES)
@pytest.mark.parametrize("size", [3_000, 300_000])
async def test_full_disk_is_storage_full_and_leaves_nothing_half(tmp_path: Path, size: int, kernel: str) -> None:
    with small_disk(tmp_path / "disk", 2_000_000) as place:
        batches = named(kernel)
        store = FsBlockStore(FsConfig(place / "store", syncfs_min_files=8), syncfs=batches.syncfs, batches=batches)
        stored = []
        with pytest.raises(StorageFull) as caught:
            for n in range(10_000):
                blocks = batch(10, size, stem=f"{n} ")
                await store.put_blocks(blocks)
                stored.extend(blocks)
        assert caught.value.hint
        assert temp_files(place) == []
        for one in stored:
            assert await store.get(one.key) == one.payload
        async for key in store.list():
            await store.get(key)
        await store.aclose()


@needs_mount
async def test_full_disk_keeps_the_old_object(tmp_path: Path) -> None:
    where = Locator("file", "default", "x")
    with small_disk(tmp_path / "disk", 1_000_000) as place:
        store = FsMutableObjectStore(FsObjectConfig(place / "objects"))
        await store.put(where, b"old")
        with pytest.raises(StorageFull):
            await store.put(where, [bytes(100_000)] * 20)
        assert [piece async for piece in await store.get(where)] == [b"old"]
        assert temp_files(place) == []
        await store.aclose()


OTHER_USER = """
import asyncio, os, sys
from pathlib import Path
from graviton.backends.filesystem import FsBlockStore, FsConfig
from tests.unit.filesystem.helpers import block
async def main():
    store = FsBlockStore(FsConfig(Path(sys.argv[1])))
    os.setgid(65534); os.setuid(65534)
    for call in (store.get(block(b"x").key), store.exists(block(b"x").key), store.put_blocks([block(b"y")])):
        try:
            print(await call)
        except Exception as error:
            print(type(error).__name__)
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
async def test_no_permission_is_not_absence() -> None:
    repository = Path(__file__).parents[3]
    with tempfile.TemporaryDirectory() as folder:
        store = FsBlockStore(FsConfig(Path(folder) / "store"))
        await store.put_blocks([block(b"x")])
        await store.aclose()
        os.chmod(folder, 0o755)
        done = subprocess.run(
            [sys.executable, "-c", OTHER_USER, f"{folder}/store"],
            env={**os.environ, "PYTHONPATH": f"{repository}/src:{repository}"},
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.split() == ["PermissionDenied"] * 3, done.stderr


async def test_links_lead_nowhere_in_an_object_store(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/=secret").write_bytes(b"secret")
    store = FsMutableObjectStore(FsObjectConfig(tmp_path / "objects"))
    await store.put(Locator("file", "default", "real"), b"real")
    (tmp_path / "objects/+link").symlink_to(tmp_path / "outside")
    (tmp_path / "objects/=file").symlink_to(tmp_path / "outside/=secret")
    for path in ("link/secret", "file"):
        where = Locator("file", "default", path)
        with pytest.raises(IntegrityError):
            await store.get(where)
        with pytest.raises(IntegrityError):
            await store.head(where)
        with pytest.raises(IntegrityError):
            await store.copy(where, Locator("file", "default", "copy"))
    with pytest.raises(IntegrityError):
        await store.put(Locator("file", "default", "link/new"), b"new")
    with pytest.raises(IntegrityError):
        await store.delete(Locator("file", "default", "link/secret"))
    await store.put(Locator("file", "default", "file"), b"mine")
    assert (tmp_path / "outside/=secret").read_bytes() == b"secret"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["=secret"]
    await store.aclose()


def test_object_names_are_one_to_one_and_short() -> None:
    assert encode_path("c") == ((), b"=c")
    assert encode_path("c/x") == ((b"+c",), b"=x")
    assert encode_path("ä/.tmp-x") == ((b"+\xc3\xa4",), b"=.tmp-x")
    exact, longer = "p" * PART_BYTES, "p" * (PART_BYTES + 1)
    assert encode_path(exact) == ((b"~" + exact.encode(),), b"=")
    assert encode_path(f"{longer}/x") == ((b"~" + exact.encode(), b"+p"), b"=x")
    names = {encode_path(path) for path in (exact, longer, f"{exact}/x", "p", f"{exact}/p", "p/p")}
    assert len(names) == 6
    assert max(len(part) for folders, file in names for part in (*folders, file)) <= 255


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EACCES, PermissionDenied),
        (errno.EPERM, PermissionDenied),
        (errno.EROFS, PermissionDenied),
        (errno.ENOENT, NotFound),
        (errno.ELOOP, IntegrityError),
        (errno.ENOTDIR, IntegrityError),
        (errno.EIO, Unavailable),
        (errno.EMFILE, Unavailable),
        (errno.ESTALE, Unavailable),
    ],
)
def test_os_errors_are_translated(number: int, kind: type[GravitonError]) -> None:
    with pytest.raises(kind) as caught, mapped("blocks.get", "the key", missing="there is no such block"):
        raise OSError(number, os.strerror(number), "/some/path")
    assert (caught.value.operation, caught.value.subject) == ("blocks.get", "the key")
    assert isinstance(caught.value.__cause__, OSError)


def test_vanished_files_are_absence_only_where_absence_is_meant() -> None:
    with pytest.raises(Unavailable), mapped("blocks.put", "the key"):
        raise FileNotFoundError(errno.ENOENT, "gone")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": ""}, {"prefix": "/abs"}, {"prefix": "a/../b"}, {"prefix": "trash"}, {"prefix": "trash/x"},
        {"prefix": "uploads/x"},
        {"workers": 0}, {"workers": 65}, {"fsync_workers": 65}, {"syncfs_min_files": 1}, {"syncfs_max_mean_bytes": -1},
    ],
)  # fmt: skip
def test_wrong_settings_are_config_errors(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FsConfig(tmp_path, **wrong)  # type: ignore[arg-type]


def test_settings_are_frozen_and_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = FsConfig(Path("store"))
    assert config.blocks_path == tmp_path / "store/cas/blocks"
    with pytest.raises(FrozenInstanceError):
        config.workers = 2  # type: ignore[misc]


def test_file_system_type_of_proc_is_known_and_not_trusted() -> None:
    device = os.stat("/proc").st_dev
    assert file_system_type(device) == "proc"
    assert syncfs_is_durable(device) is False
    assert file_system_type(os.makedev(4000, 4000)) == ""


@pytest.mark.parametrize(
    ("release", "trusted"), [("5.7.9", False), ("5.8.0", True), ("6.1.0-44-amd64", True), ("?", False)]
)
def test_old_kernels_do_not_report_errors_of_syncfs(
    monkeypatch: pytest.MonkeyPatch, release: str, trusted: bool
) -> None:
    monkeypatch.setattr("graviton.backends.filesystem._mounts.file_system_type", lambda device: "ext4")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", release, "", "")))
    assert syncfs_is_durable(0) is trusted


async def test_folder_loads_estimate_and_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsBlockStore(FsConfig(tmp_path))
    assert await folder_loads(store) == []
    await store.put_blocks(batch(1500))
    [load] = await folder_loads(store)
    assert load.path == str(tmp_path / "cas/blocks/sha256")
    if load.entries is None:
        pytest.skip(f"the size of a folder says nothing on {file_system_type(tmp_path.stat().st_dev)}")
    assert 1000 < load.entries < 3000
    assert not load.is_too_full
    monkeypatch.setattr(folders, "WARN_ENTRIES", 1000)
    assert load.is_too_full
    await store.aclose()
