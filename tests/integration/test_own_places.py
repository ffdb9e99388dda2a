"""No command writes over the store's own files, nor opens its database as if it were somebody's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from graviton.core.keys import BlobKey
from tests.integration.cli_process import Cli

DATABASE = ("meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm", "meta.sqlite-journal")


@pytest.fixture
def blob(run: Cli, tmp_path: Path) -> str:
    (tmp_path / "hello").write_bytes(b"hello")
    [blob] = run("put", "hello").ids
    for name in ("trash", "uploads"):
        (run.root / name).mkdir(exist_ok=True)
    return blob


def is_whole(run: Cli, blob: str) -> bool:
    return run("verify", "--all").code == 0 and run("cat", blob).out == "hello"


def places(root: Path, blob: str) -> list[Path]:
    key = BlobKey.parse(blob)
    block = root / "cas/blocks/blake3" / f"{key.hex}-{key.size}"
    new = [root / "trash/new", root / "cas/blocks/new", root / "uploads/new"]
    return [root / "graviton-store.json", *(root / name for name in DATABASE), block, *new]


def test_get_writes_over_nothing_of_the_store(run: Cli, blob: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run.root)
    for path in places(run.root, blob):
        for target in (path, tmp_path / "link" / path.relative_to(run.root)):
            before = target.read_bytes() if target.exists() else None
            done = run("get", blob, "-o", target)
            assert (done.code, len(done.err.splitlines())) == (1, 1), target
            assert "belongs to the store itself" in done.err
            after = target.read_bytes() if target.exists() else None
            if target.name.endswith(("-wal", "-shm")):  # they come and go with whoever has the database open
                assert after != b"hello"
            else:
                assert after == before
    assert run("get", blob, "-o", run.root / "cas/blocks", "--force").code == 1
    (tmp_path / "alias").symlink_to(run.root / "meta.sqlite")
    assert run("get", blob, "-o", "alias").code == 1
    assert is_whole(run, blob)


def test_get_into_the_folder_of_the_store_is_fine_elsewhere(run: Cli, blob: str) -> None:
    assert run("get", blob, "-o", run.root / "copy").code == 0
    assert (run.root / "copy").read_bytes() == b"hello"


def test_a_metadata_file_elsewhere_is_known(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAVITON_META_PATH", str(tmp_path / "meta/real.sqlite"))
    (tmp_path / "hello").write_bytes(b"hello")
    [blob] = run("put", "hello").ids
    (tmp_path / "there.sqlite").symlink_to("meta/real.sqlite")
    monkeypatch.setenv("GRAVITON_META_PATH", str(tmp_path / "there.sqlite"))
    for name in ("there.sqlite", "meta/real.sqlite", "meta/real.sqlite-wal"):
        assert run("get", blob, "-o", name).code == 1
        if name != "meta/real.sqlite-wal":  # gone while nobody has the store open
            assert "belongs to the store itself" in run("put", name).err
    done = run("put", "-r", "meta")
    assert done.code == 0
    assert "skipped meta/real.sqlite: it belongs to the store itself" in done.err
    assert is_whole(run, blob)


def test_a_restored_tree_touches_nothing_of_the_store(run: Cli, blob: str, tmp_path: Path) -> None:
    for name in ("tree/cas/blocks/blake3/x", "tree/trash/x", "tree/meta.sqlite", "tree/meta.sqlite-journal", "tree/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"hello")
    (tmp_path / "tree/graviton-store.json").symlink_to("y")
    listing = run("put", "-r", "tree").ids[-1]
    done = run("get", listing, "-o", run.root, "--force")
    assert done.code == 1
    assert done.err.count("belongs to the store itself") == 5
    assert (run.root / "y").read_bytes() == b"hello"
    assert run("get", listing, "-o", run.root / "cas/blocks/new").code == 1
    assert not (run.root / "cas/blocks/new").exists()
    assert is_whole(run, blob)


def test_put_never_opens_the_database(run: Cli, blob: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import graviton.services.sources as sources

    opened: list[str] = []
    real = sources.os.open
    monkeypatch.setattr(
        sources.os, "open", lambda path, *a, **k: opened.append(os.fsdecode(path)) or real(path, *a, **k)
    )
    os.link(run.root / "meta.sqlite", tmp_path / "hard")
    (tmp_path / "soft").symlink_to(run.root / "meta.sqlite")
    for name in ("hard", "soft", "store/meta.sqlite"):
        done = run("put", name, "hello")
        assert done.code == 1
        assert f"{name} belongs to the store itself" in done.err
        assert done.ids == [blob], "the other one is stored"
        assert run("put", "--limit-rate", "1GB", name).code == 1
    (tmp_path / "tree").mkdir()
    os.link(run.root / "meta.sqlite", tmp_path / "tree/hard")
    assert run("put", "-r", "tree").code == 0
    assert not {"hard", "soft", "store/meta.sqlite"} & set(opened)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_backup_goes_over_nothing_of_the_store(run: Cli, blob: str, force: list[str]) -> None:
    for path in places(run.root, blob):
        done = run("meta", "backup", path, *force)
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert "belongs to the store itself" in done.err
    assert is_whole(run, blob)


def test_a_backup_replaces_no_device_or_pipe(run: Cli, blob: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("fifo", "null"):
        for force in ([], ["--force"]):
            done = run("meta", "backup", name, *force)
            assert done.code == 1
            assert "device" in done.err
    assert stat.S_ISFIFO(os.lstat(tmp_path / "fifo").st_mode)
    assert (tmp_path / "null").is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_backup_through_a_link_replaces_what_it_leads_to(run: Cli, blob: str, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    assert "--force" in run("meta", "backup", "link").err
    assert run("meta", "backup", "link", "--force").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_size > 0
