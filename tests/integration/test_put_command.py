"""`graviton put`: what it prints, keeps and goes on after."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.integration.cli_process import MIB, Cli, damage


def test_put_prints_the_id_and_the_path(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    done = run("put", path)
    assert done == (0, f"{blob}  {path}\n", "")


def test_put_json_has_every_member(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    [first] = run("put", path, "--json").objects
    assert first.pop("seconds") > 0
    assert first == {
        "id": blob,
        "path": str(path),
        "size": 5,
        "blocks": 1,
        "fresh_blocks": 1,
        "fresh_bytes": 5,
        "repaired_blocks": 0,
        "chunker": "w16-v1:262144:1048576:4194304",
        "created": True,
    }
    [again] = run("--json", "put", path).objects
    assert (again["fresh_blocks"], again["created"]) == (0, False)


def test_put_goes_on_after_a_failure(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    os.mkfifo(tmp_path / "pipe")
    done = run("put", "missing", tmp_path, tmp_path / "pipe", path)
    assert (done.code, done.ids) == (1, [blob])
    missing, folder, pipe = done.err.splitlines()
    assert "missing does not exist" in missing
    assert "is a directory" in folder
    assert "-r" in folder
    assert "is a pipe" in pipe
    objects = run("put", "missing", path, "--json").objects
    assert objects[0]["error"] == "not_found"
    assert objects[0]["subject"] == objects[0]["path"] == "missing"
    assert objects[1]["id"] == blob


def test_an_unreadable_path_makes_no_store(run: Cli) -> None:
    assert run("put", "missing").code == 1
    assert run("put", "-r", "missing").code == 1
    assert not run.root.exists()


def test_put_keeps_what_it_is_told(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path, "--mime", "text/plain", "--attr", "colour=red", "--attr", "user.empty=", "--attr", "eq=a=b")
    [known] = run("stat", blob, "--json").objects
    assert (known["name"], known["mime"]) == ("hello.txt", "text/plain")
    mine = {name: value for name, value in known["attributes"].items() if name.startswith("user.")}
    assert mine == {"user.name": "hello.txt", "user.colour": "red", "user.empty": "", "user.eq": "a=b"}


def test_put_without_the_name(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path, "--no-name")
    assert run("stat", blob, "--json").objects[0]["name"] is None


@pytest.mark.filterwarnings("default::UserWarning")
def test_put_cuts_and_hashes_as_asked(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(10_000))
    run("put", "zeros")
    done = run("put", "zeros", "--chunker", "fixed:1000B", "--hash", "sha-256", "--json")
    [result] = done.objects
    assert result["id"].startswith("sha256:")
    assert (result["blocks"], result["fresh_blocks"], result["chunker"]) == (10, 1, "fixed-v1:1000")
    assert done.err.count("shares no blocks") == 2, "the chunker and the hash, once each"


def test_the_put_that_makes_the_store_makes_it_as_asked(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(10_000))
    done = run("put", "zeros", "--chunker", "fixed:1000B", "--hash", "sha256")
    assert (done.code, done.err) == (0, "")
    [marker] = run("store", "init", "--json").objects
    assert (marker["created"], marker["hash"], marker["chunker"]) == (False, "sha256", "fixed-v1:1000")
    again = run("put", "zeros", "--json")
    [result] = again.objects
    assert (result["id"], result["fresh_blocks"], again.err) == (done.ids[0], 0, "")


@pytest.mark.parametrize("size", [5, 2 * MIB])
def test_a_file_that_changes_while_it_is_read_is_told(
    run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    import graviton.cli.putting as putting

    def open_and_let_somebody_write(path: str) -> io.FileIO:
        file = open_regular(path)
        monkeypatch.setattr(os, "fstat", fstat_then_write)
        return file

    def fstat_then_write(fd: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", fstat)
        info = fstat(fd)
        with open("log", "ab") as log:
            log.write(b"more")
        return info

    open_regular, fstat = putting.open_regular, os.fstat
    monkeypatch.setattr(putting, "open_regular", open_and_let_somebody_write)
    (tmp_path / "log").write_bytes(bytes(size))
    done = run("put", "log")
    assert done.code == 0
    assert done.err == "graviton: warning: log changed while it was read; it is stored as it was read\n"


def test_a_limited_put_stores_the_same(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    assert run("put", path, "--limit-rate", "10MB").ids == [blob]


def test_put_says_what_it_repaired(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    damage(run.root, blob)
    assert run("cat", blob).code == 1
    done = run("put", path)
    assert done.code == 0
    assert "repaired 1 block" in done.err
    assert run("cat", blob).out == "hello"


def test_odd_names_stay_one_line(run: Cli, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/new\nline\xff")
    Path(odd).write_bytes(b"x")
    done = run("put", odd)
    assert done.out.endswith("new\\nline\\xff\n")
    assert len(done.out.splitlines()) == 1
    assert run("put", odd, "--json").objects[0]["path"].endswith("new\\nline\\xff")


def test_a_tree_that_is_the_store_itself_makes_no_store(run: Cli) -> None:
    run.root.mkdir()
    (run.root / "file").write_bytes(b"x")
    done = run("put", "-r", run.root)
    assert done.code == 1
    assert "belongs to the store itself" in done.err
    assert os.listdir(run.root) == ["file"]


def test_many_small_files_are_put_together_in_their_order(run: Cli, tmp_path: Path) -> None:
    names = [f"f{number:02}" for number in range(40)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "large").write_bytes(bytes(300 * 1024))
    paths = [*names[:20], "large", "missing", *names[20:]]
    results = run("put", *paths, "--json").objects
    assert [each["path"] for each in results] == paths
    assert [each["path"] for each in results if "error" in each] == ["missing"]
    seconds = {each["seconds"] for each in results if each["path"] in names[:20]}
    assert len(seconds) == 1, "one group takes one time"
    names_kept = {each["name"] for each in run("ls", "--json").objects}
    assert names_kept == {*names, "large"}
