"""`graviton get` and `cat`: to files, folders and devices, ranges, damage."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from graviton.constraints.budget import DEFAULT_BUDGET_BYTES
from tests.integration.cli_process import MIB, Cli, damage


def test_get_to_a_file(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    old = tmp_path / "out"
    old.write_bytes(b"something longer than hello")
    os.chmod(old, 0o777)
    done = run("get", blob, "-o", old)
    assert done == (0, "", "")
    assert old.read_bytes() == b"hello"
    assert stat.S_IMODE(old.stat().st_mode) == 0o777, "as `>` would leave it"
    assert run("get", blob, "-o", old, "--json").objects[0].items() >= {"id": blob, "size": 5, "path": str(old)}.items()
    assert sorted(os.listdir(tmp_path)) == ["hello.txt", "out", "store"]


def test_get_into_a_folder_uses_the_kept_name(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    folder = tmp_path / "folder"
    folder.mkdir()
    for _ in range(2):
        assert run("get", blob, "-o", folder).code == 0
    assert (folder / "hello.txt").read_bytes() == b"hello"
    (folder / "hello.txt").write_bytes(b"other")
    done = run("get", blob, "-o", folder)
    assert done.code == 1
    assert "--force" in done.err
    assert (folder / "hello.txt").read_bytes() == b"other"
    assert run("get", blob, "-o", folder, "--force").code == 0
    assert (folder / "hello.txt").read_bytes() == b"hello"


def test_only_a_large_get_settles_the_memory_of_the_process(
    run: Cli, hello: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blob = hello
    kept: list[int] = []
    monkeypatch.setattr("graviton.cli.getting.keep_freed_memory", kept.append)
    run("put", path)
    run("get", blob, "-o", tmp_path / "out")
    assert kept == []
    monkeypatch.setattr("graviton.cli.getting._SETTLE_BYTES", 5)
    run("get", blob, "-o", tmp_path / "out", "--range", "0-3")
    assert kept == []
    run("get", blob, "-o", tmp_path / "out")
    assert kept == [DEFAULT_BUDGET_BYTES]


@pytest.mark.parametrize("name", ["../escape", "..", "/etc/x", "a/b", "bell\x07", "x" * 300])
def test_a_hostile_name_is_not_used(run: Cli, hello: tuple[Path, str], tmp_path: Path, name: str) -> None:
    path, blob = hello
    run("put", path, "--attr", f"name={name}")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert run("get", blob, "-o", folder).code == 0
    assert os.listdir(folder) == [blob.split(":")[1]]


def test_get_through_a_link_replaces_what_it_leads_to(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    assert run("get", blob, "-o", "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"hello"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(run: Cli, hello: tuple[Path, str], tmp_path: Path, mode: int) -> None:
    path, blob = hello
    run("put", path)
    for target, args in (("real", []), ("link", []), (".", ["--force"])):
        name = "hello.txt" if target == "." else "real"
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(mode)
        if target == "link":
            (tmp_path / "link").symlink_to("real")
        assert run("get", blob, "-o", target, *args).code == 0
        assert (tmp_path / name).read_bytes() == b"hello"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
    assert run("get", blob, "-o", "new").code == 0
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_a_device_is_written_to_and_not_replaced(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    (tmp_path / "null").symlink_to("/dev/null")
    assert run("get", blob, "-o", "null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (tmp_path / "null").is_symlink()


@pytest.mark.parametrize(
    ("text", "expected"), [("1-3", "ell"), ("2-", "llo"), ("-2", "lo"), ("0-99", "hello"), ("1-" + "9" * 90, "ello")]
)
def test_get_a_range(run: Cli, hello: tuple[Path, str], text: str, expected: str) -> None:
    path, blob = hello
    run("put", path)
    assert run("get", blob, "--range", text).out == expected


@pytest.mark.parametrize(("text", "code"), [("5-", 1), ("-0", 1), ("3-1", 2), ("x", 2), ("1", 2), ("-", 2)])
def test_a_range_that_cannot_be(run: Cli, hello: tuple[Path, str], tmp_path: Path, text: str, code: int) -> None:
    path, blob = hello
    run("put", path)
    done = run("get", blob, "--range", text, "-o", "out")
    assert (done.code, done.out) == (code, "")
    assert text in done.err
    assert not (tmp_path / "out").exists()


def test_a_range_of_a_listing_goes_to_a_file(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    listing = run("put", "-r", "tree").ids[-1]
    for target in ("tree", "new/"):
        done = run("get", listing, "-o", target, "--range", "0-17")
        assert (done.code, "--range" in done.err) == (2, True)
    assert os.listdir(tmp_path / "tree") == []
    assert run("get", listing, "-o", "head", "--range", "0-17").code == 0
    assert (tmp_path / "head").read_bytes() == b"graviton-listing 1"


def test_damage_leaves_no_file_and_no_wrong_byte(run: Cli, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(3 * MIB))
    [blob] = run("put", source, "--chunker", "fixed:1MiB").ids
    blocks = run("stat", blob, "--blocks", "--json").objects[1:]
    damage(run.root, blocks[1]["key"])
    done = run("get", blob, "-o", "out")
    assert done.code == 1
    assert f"{MIB}-{2 * MIB - 1}" in done.err, "the byte range"
    assert blob in done.err
    assert blocks[1]["key"] in done.err
    assert sorted(os.listdir(tmp_path)) == ["big", "store"]
    with open(tmp_path / "piped", "wb") as out:
        saved = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            code = run("cat", blob).code
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert code == 1
    assert (tmp_path / "piped").read_bytes() == source.read_bytes()[:MIB]
    assert run("get", blob, "--range", f"0-{MIB - 1}", "-o", "out").code == 0


def test_a_refused_listing_leaves_no_folder(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"no listing\n")
    [blob] = run("put", "bad", "--mime", "application/vnd.graviton.listing").ids
    done = run("get", blob, "-o", "a/b/c")
    assert done.code == 1
    assert "this is not a listing" in done.err
    assert "graviton cat" in done.err, "what to do next"
    assert not (tmp_path / "a").exists()


def test_get_where_nothing_can_be_written(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    for target in ("no/such/folder/out", "hello.txt/out", "missing/"):
        done = run("get", blob, "-o", target)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1


def test_cat_joins_blobs(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    (tmp_path / "b").write_bytes(b", world")
    ids = run("put", path, "b").ids
    assert run("cat", *ids, blob[7:15]).out == "hello, worldhello"
