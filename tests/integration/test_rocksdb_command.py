"""The command line and the library on RocksDB: GRAVITON_METADATA=rocksdb, rocksdb://."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import graviton
from graviton.assembly.places import own_places
from graviton.concurrency.executors import in_own_thread
from graviton.errors import ConfigError, InvalidInput
from tests.integration.cli_process import Outcome
from tests.integration.command_runs import graviton as command


def rocks(root: Path, *args: str | Path, **environment: str) -> Outcome:
    run = command(root, *args, GRAVITON_METADATA="rocksdb", **environment)
    assert "Traceback" not in run.err
    return run


def _put(root: Path, file: Path, data: bytes) -> str:
    file.write_bytes(data)
    run = rocks(root, "put", file, "--json")
    assert run.code == 0, run.err
    return str(run.objects[0]["id"])


def test_a_store_on_rocksdb_from_init_to_verify(tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert "there is no store" in rocks(root, "ls").err
    assert not root.exists(), "looking makes nothing"
    assert rocks(root, "store", "init").code == 0
    assert sorted(os.listdir(root)) == ["graviton-store.json", "meta.rocks"]
    one = _put(root, tmp_path / "file", os.urandom(100_000))
    assert rocks(root, "get", one, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "file").read_bytes()
    assert rocks(root, "verify", "--all").code == 0
    assert rocks(root, "stats", "--json").objects[0]["blobs"] == 1
    doctor = rocks(root, "doctor", "--json")
    checks = {check.get("check"): check for check in doctor.objects}
    settings = {check["name"]: check["value"] for check in doctor.objects if check.get("check") == "setting"}
    assert doctor.code == 0
    assert checks["store"]["blobs"] == 1
    assert "metadata.file_system" in checks
    assert checks["metadata.in_use"]["holder"] == ""
    assert settings["GRAVITON_META_PATH"] == str(root / "meta.rocks")
    assert rocks(root, "rm", one).code == 0


def test_a_backup_moves_between_sqlite_and_rocksdb(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (tmp_path / "file").write_bytes(os.urandom(50_000))
    assert command(root, "put", tmp_path / "file").code == 0
    assert command(root, "meta", "backup", tmp_path / "backup").code == 0
    assert rocks(root, "meta", "restore", tmp_path / "backup").code == 0
    assert rocks(root, "store", "adopt").code == 0
    assert rocks(root, "verify", "--all").code == 0
    assert rocks(root, "meta", "backup", tmp_path / "again").code == 0
    assert len(rocks(root, "ls", "--json").objects) == 1
    assert command(root, "ls").code != 0, "the metadata that was left is refused"


def test_damage_is_found_by_verify_and_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "store"
    for n in range(3):
        _put(root, tmp_path / "file", os.urandom(300_000) + bytes((n,)))
    table = max((root / "meta.rocks").glob("*.sst"), key=lambda found: found.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 0x10
    table.write_bytes(data)
    run = rocks(root, "verify", "--all")
    assert run.code != 0
    assert table.name in run.out + run.err
    shutil.copytree(root, tmp_path / "other")
    (tmp_path / "other/meta.rocks/CURRENT").unlink()
    refused = rocks(tmp_path / "other", "ls")
    assert refused.code != 0
    assert "meta restore" in refused.err


def test_what_belongs_to_the_store_is_neither_read_nor_written_over(tmp_path: Path) -> None:
    root = tmp_path / "tree/store"
    one = _put(root, tmp_path / "file", b"some bytes")
    for path in (root / "meta.rocks/x", root / "meta.rocks/CURRENT"):
        run = rocks(root, "get", one, "-o", path)
        assert run.code != 0
        assert "belongs to the store itself" in run.err
    assert rocks(root, "put", root / "meta.rocks/LOCK").code != 0
    put = rocks(root, "put", "-r", tmp_path / "tree")
    assert put.code == 0, put.err
    assert rocks(root, "ls").code == 0


async def test_the_state_of_metadata_is_told_also_while_a_server_has_them(tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with graviton.open(root, metadata="rocksdb://") as store:
        await store.put(b"some bytes")
        status = await in_own_thread(rocks, root, "meta", "status", "--json")
        assert (status.code, status.err) == (0, "")
        assert status.objects[0]["state"] == "in_use"
        assert "in use by process" in (await in_own_thread(rocks, root, "ls")).err


async def test_the_library_opens_it_by_address(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "store", metadata="rocksdb://") as store:
        key = (await store.put(b"some bytes")).key
        assert not store.capabilities.multi_process
        assert own_places(store.settings).database == (str(tmp_path / "store/meta.rocks/LOCK"),)
        with pytest.raises(InvalidInput):
            own_places(store.settings).check_input(str(tmp_path / "store/meta.rocks/LOCK"))
    assert (tmp_path / "store/meta.rocks/CURRENT").exists()
    address = f"rocksdb://{tmp_path}/store/meta.rocks"
    async with graviton.open(tmp_path / "store", metadata=address) as store, await store.get(key) as reader:
        assert await reader.read() == b"some bytes"
    with pytest.raises(ConfigError):
        graviton.open(tmp_path / "store", metadata="rocksdb://relative/path")


def test_the_laws_hold_on_a_live_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert rocks(root, "store", "init").code == 0
    run = rocks(root, "store", "check", "--port", "BlockIndex", "--json")
    assert run.code == 0, run.out
    assert run.objects[-1]["kept"] > 20
    assert sorted(os.listdir(root)) == ["graviton-store.json", "meta.rocks"]
