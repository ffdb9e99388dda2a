"""`graviton meta backup` and `restore`: round trip, refusals, a backup that was cut short."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.integration.command_runs import block_files, graviton, put_file

DATA = random.Random(3).randbytes(300_000)


def test_backup_is_restored_and_everything_reads_back(tmp_path: Path) -> None:
    root, backup = tmp_path / "store", tmp_path / "backup"
    blob = put_file(root, tmp_path / "file", DATA)
    made = graviton(root, "meta", "backup", backup, "--json")
    assert made.code == 0
    assert made.objects[0]["size"] == backup.stat().st_size
    text = graviton(tmp_path / "other", "meta", "restore", backup).out
    assert f"; {len(block_files(root))} blocks missing, 0 unfinished puts ended\n" in text
    for name in ("meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm"):
        (root / name).unlink(missing_ok=True)

    restored = graviton(root, "meta", "restore", backup, "--json")
    assert restored.code == 0
    assert restored.objects[0]["records"] == made.objects[0]["records"]
    assert restored.objects[0]["missing_blocks"] == 0
    refused = graviton(root, "stat", blob)
    assert refused.code == 1
    assert "graviton store adopt" in refused.err
    assert graviton(root, "store", "adopt").code == 0
    assert graviton(root, "verify", "--all").code == 0
    assert graviton(root, "get", blob, "-o", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == DATA


def test_metadata_and_marker_are_lost_and_the_backup_brings_all_back(tmp_path: Path) -> None:
    root, backup = tmp_path / "store", tmp_path / "backup"
    blob = put_file(root, tmp_path / "file", DATA)
    assert graviton(root, "meta", "backup", backup).code == 0
    for name in ("meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm", "graviton-store.json"):
        (root / name).unlink(missing_ok=True)
    for args in (["meta", "restore", backup], ["store", "adopt"], ["verify", "--all"]):
        done = graviton(root, *args)
        assert done.code == 0, done.err
    assert graviton(root, "get", blob, "-o", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == DATA


def test_block_that_is_gone_since_the_backup_is_found_and_healed(tmp_path: Path) -> None:
    root, backup, file = tmp_path / "store", tmp_path / "backup", tmp_path / "file"
    blob = put_file(root, file, DATA)
    assert graviton(root, "meta", "backup", backup).code == 0
    block_files(root)[0].unlink()
    (root / "meta.sqlite").unlink()
    restored = graviton(root, "meta", "restore", backup, "--json")
    assert restored.objects[0]["missing_blocks"] == 1
    assert graviton(root, "store", "adopt").code == 0
    assert graviton(root, "verify", blob).code == 1
    put_file(root, file, DATA)
    assert graviton(root, "verify", blob).code == 0


def test_backup_does_not_overwrite_unless_forced(tmp_path: Path) -> None:
    root, backup = tmp_path / "store", tmp_path / "backup"
    put_file(root, tmp_path / "file", DATA)
    backup.write_bytes(b"something of mine")
    refused = graviton(root, "meta", "backup", backup, "--json")
    assert (refused.code, refused.objects[0]["error"]) == (1, "already_exists")
    assert backup.read_bytes() == b"something of mine"
    assert graviton(root, "meta", "backup", backup, "--force").code == 0
    assert backup.read_bytes() != b"something of mine"


def test_backup_of_no_store_is_not_found_and_leaves_nothing(tmp_path: Path) -> None:
    run = graviton(tmp_path / "none", "meta", "backup", tmp_path / "backup")
    assert run.code == 1
    assert list(tmp_path.iterdir()) == []


def test_restore_refuses_a_truncated_backup_and_a_store_in_use(tmp_path: Path) -> None:
    root, backup = tmp_path / "store", tmp_path / "backup"
    blob = put_file(root, tmp_path / "file", DATA)
    assert graviton(root, "meta", "backup", backup).code == 0
    in_use = graviton(root, "meta", "restore", backup)
    assert in_use.code == 1
    assert "not empty" in in_use.err
    assert graviton(root, "verify", blob).code == 0

    whole = backup.read_bytes()
    place = tmp_path / "elsewhere" / "meta.sqlite"
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        backup.write_bytes(whole[:length])
        cut = graviton(root, "meta", "restore", backup, "--json", GRAVITON_META_PATH=str(place))
        assert (cut.code, cut.objects[0]["error"]) == (1, "integrity")
        assert not place.exists()


def test_wrong_totals_are_put_right(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put_file(root, tmp_path / "file", DATA)
    right = graviton(root, "stats", "--json").objects
    assert graviton(root, "meta", "repair-totals").out == "all totals are right\n"
    with closing(sqlite3.connect(root / "meta.sqlite")) as connection, connection:
        connection.execute("UPDATE ns_totals SET checksum = checksum + 1")
    assert graviton(root, "stats").code == 1
    told = graviton(root, "meta", "repair-totals", "--json")
    assert (told.code, told.objects[0]["domain"], told.objects[0]["counted"]["blobs"]) == (0, "", 1)
    assert graviton(root, "stats", "--json").objects == right
    assert graviton(root, "verify", "--all").code == 0


def test_a_backup_of_blocks_under_another_prefix_is_refused_untouched(tmp_path: Path) -> None:
    root, other, backup = tmp_path / "store", tmp_path / "other", tmp_path / "backup"
    blob = put_file(root, tmp_path / "file", DATA)
    assert graviton(root, "meta", "backup", backup).code == 0
    for options in ((), ("--trust",)):
        refused = graviton(other, "meta", "restore", backup, *options, GRAVITON_FS_BLOCK_PREFIX="elsewhere")
        assert refused.code == 1
        [line] = refused.err.splitlines()
        assert f"{backup} belongs to blocks under the prefix 'cas/blocks', not 'elsewhere'" in line
        assert "GRAVITON_FS_BLOCK_PREFIX" in line
        assert "store adopt" in line
        assert not other.exists()

    # The way out that the hint says, for blocks that were moved.
    other.mkdir()
    (root / "cas/blocks").rename(other / "elsewhere")
    assert graviton(other, "meta", "restore", backup, "--trust").code == 0
    assert graviton(other, "store", "adopt", GRAVITON_FS_BLOCK_PREFIX="elsewhere").code == 0
    assert graviton(other, "verify", "--all", GRAVITON_FS_BLOCK_PREFIX="elsewhere").code == 0
    assert graviton(other, "get", blob, "-o", tmp_path / "back", GRAVITON_FS_BLOCK_PREFIX="elsewhere").code == 0
    assert (tmp_path / "back").read_bytes() == DATA
