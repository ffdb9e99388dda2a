"""Limits from the environment, as commands obey them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.integration.cli_process import Cli
from tests.integration.metadata_kinds import spot_for_commands

KIB = 1024


def files(folder: Path, count: int, size: int) -> list[Path]:
    folder.mkdir()
    made = []
    for number in range(count):
        made.append(folder / f"{number}")
        made[-1].write_bytes(bytes([number]) * size)
    return made


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAVITON_QUOTA_BYTES", "100KiB")


def test_a_put_beyond_the_quota_is_one_clear_error_and_rm_makes_room(run: Cli, tmp_path: Path, quota: None) -> None:
    first, second = files(tmp_path / "in", 2, 60 * KIB)
    put = run("put", first)
    refused = run("put", second, "--json")
    assert refused.code == 1
    [error] = refused.objects
    assert error["error"] == "storage_full"
    assert error["message"] == (
        "the quota of all is 102400 bytes: 61440 are used and 0 reserved, and 61440 more do not fit"
    )
    assert "GRAVITON_QUOTA_BYTES" in error["hint"]
    assert run("rm", *put.ids).code == 0
    assert run("put", second).code == 0


@pytest.mark.parametrize("options", [(), ("--limit-rate", "1GB")])
def test_many_files_and_trees_are_no_way_around(
    run: Cli, tmp_path: Path, quota: None, options: tuple[str, ...]
) -> None:
    several = files(tmp_path / "in", 8, 30 * KIB)
    done = run("put", *options, *several)
    assert done.code == 1
    assert len(done.ids) <= 3
    tree = run("put", *options, "-r", tmp_path / "in")
    assert tree.code == 1
    assert "the quota of all is 102400 bytes" in tree.err
    total = sum(one["size"] for one in run("ls", "--json").objects)
    assert total <= 100 * KIB


def test_blobs_of_a_holder_are_counted(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAVITON_QUOTA_HOLDER_BLOBS", "2")
    several = files(tmp_path / "in", 3, 10)
    assert run("put", several[0]).code == run("put", several[1]).code == 0
    refused = run("put", several[2])
    assert (refused.code, "of the default holder is 2 blobs" in refused.err) == (1, True)


def test_rates_hold_for_put_get_and_cat(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.write_bytes(bytes(300_000))
    monkeypatch.setenv("GRAVITON_UPLOAD_RATE", "1MB/s")
    began = time.monotonic()
    [blob] = run("put", data).ids
    assert time.monotonic() - began >= 0.28
    monkeypatch.setenv("GRAVITON_DOWNLOAD_RATE", "1MB")
    for command in (("get", blob, "-o", str(tmp_path / "out")), ("cat", blob)):
        began = time.monotonic()
        assert run(*command).code == 0
        assert time.monotonic() - began >= 0.28
    assert (tmp_path / "out").read_bytes() == data.read_bytes()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("GRAVITON_QUOTA_BYTES", "much"),
        ("GRAVITON_QUOTA_BLOBS", "-1"),
        ("GRAVITON_QUOTA_HOLDER_BYTES", "999999999T"),
        ("GRAVITON_QUOTA_HOLDER_BLOBS", "1k"),
        ("GRAVITON_UPLOAD_RATE", "0"),
        ("GRAVITON_DOWNLOAD_RATE", "fast"),
        ("GRAVITON_SPILL_BYTES", "0"),
    ],
)
def test_a_wrong_value_stops_the_start(run: Cli, name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, wrong)
    done = run("ls")
    assert done.code != 0
    assert name in done.err


@pytest.mark.postgres
@pytest.mark.parametrize(("source", "target"), [("sqlite", "rocksdb"), ("sqlite", "postgres"), ("postgres", "sqlite")])
def test_the_books_move_with_the_metadata(
    source: str, target: str, run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = files(tmp_path / "in", 2, 60 * KIB)
    monkeypatch.setenv("GRAVITON_QUOTA_HOLDER_BYTES", "100KiB")
    with spot_for_commands(source, tmp_path) as one, spot_for_commands(target, tmp_path) as other:
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        assert run("put", first).code == 0
        moved = run("meta", "copy", "--from", one.place, "--to", other.place)
        assert moved.code == 0, moved.err
        for name in one.environment:
            monkeypatch.delenv(name)
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        refused = run("put", second)
        assert "of the default holder is 102400 bytes: 61440 are used" in refused.err
        assert run("rm", run("ls", "--json").objects[0]["id"]).code == 0
        assert run("put", second).code == 0
