"""What all commands share: where the store is, shortened ids, failures, help."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from graviton.cli.app import COMMANDS, cli
from tests.integration.cli_process import Cli


def test_one_file_that_may_not_be_read_stops_no_other(
    run: Cli, hello: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blob = hello
    (tmp_path / "secret").write_bytes(b"x")
    real = os.open

    def open_as_nobody(name: str, *args: object, **options: object) -> int:
        if os.fspath(name) == "secret":
            raise PermissionError(errno.EACCES, "")
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "access", lambda name, *_: os.fspath(name) != "secret")
    monkeypatch.setattr(os, "open", open_as_nobody)
    done = run("put", "secret", path, "--json")
    assert done.code == 1
    error, result = done.objects
    assert (error["error"], error["subject"]) == ("permission_denied", "secret")
    assert error["hint"]
    assert result["id"] == blob
    for args in (["get", blob, "-o", "secret"], ["meta", "backup", "secret"], ["--root", "secret", "ls"]):
        assert run(*args).code != 2
    assert (tmp_path / "secret").read_bytes() == b"hello"


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_store_that_is_made_by_hand_is_made_as_asked(run: Cli) -> None:
    made = run("store", "init", "--chunker", "small", "--hash", "sha256", "--json").objects[0]
    assert (made["created"], made["hash"], made["chunker"]) == (True, "sha256", "w16-v1:16384:65536:262144")
    other = run("store", "init", "--hash", "blake3")
    assert (other.code, "there is a store" in other.out) == (0, True)
    assert "was made with hash sha256" in other.err


def test_the_root_need_not_be_text(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run.root = tmp_path / "st\udcff"
    assert run("put", path).ids == [blob]
    assert run("verify", "--all").code == 0
    assert "there is a store at" in run("store", "init").out
    assert "/st\\xff\n" in run("store", "init").out
    roots = [check for check in run("doctor", "--json").objects if check.get("name") == "GRAVITON_FS_ROOT"]
    assert roots[0]["value"].endswith("st\\xff")
    assert run("meta", "backup", "b\udcff", "--json").objects[0]["file"] == "b\\xff"


def test_every_failure_says_what_to_do_next(
    run: Cli, hello: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blob = hello
    run("put", path)
    no_blob = f"blake3:{'0' * 64}:5"
    for args in (
        ["chunk", "nope"], ["chunk", "."], ["rm", no_blob], ["stat", no_blob], ["get", no_blob], ["put", "nope"],
        ["get", blob, "-o", "no/such/folder"], ["get", blob, "-o", "hello.txt/x"], ["meta", "backup", "hello.txt"],
        ["--root", "elsewhere", "ls"], ["get", blob, "-o", "n" * 300],
    ):  # fmt: skip
        [error] = run("--json", *args).objects
        assert error["hint"], args
        assert "graviton-store.json" not in error["message"]
    real = os.open

    def open_as_nobody(name: str | bytes, *rest: object, **options: object) -> int:
        if os.fsencode(name).endswith(b".tmp"):
            raise PermissionError(errno.EACCES, "")
        return real(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_as_nobody)
    done = run("get", blob, "-o", "out")
    assert done.err.startswith("graviton: cannot write: out: Permission denied. Check the owner and mode")


def test_a_store_in_memory_has_a_place(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAVITON_BLOB_BACKEND", "memory")
    monkeypatch.setenv("GRAVITON_METADATA", "memory")
    assert "there is no store at memory://. " in run("ls").err


def test_an_error_before_the_first_byte_is_an_object_on_stdout(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    missing = blob.replace(":5", ":6")
    for args in (("cat", missing), ("get", missing), ("get", missing, "-o", "x")):
        done = run(*args, "--json")
        assert (done.code, done.objects[0]["error"], done.err) == (1, "not_found", "")
    done = run("get", missing, "-o", "-", "--json")
    assert done.out == ""
    assert json.loads(done.err)["error"] == "not_found"


def test_a_shortened_id_serves_everywhere(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    for text in (blob[7:15], blob[:15], blob.rsplit(":", 1)[0]):
        assert run("cat", text).out == "hello"
        assert run("get", text, "-o", "-").out == "hello"
        assert run("stat", text, "--json").objects[0]["id"] == blob
    for text, code in (("0" * 7, 2), ("0" * 8, 1), ("xyz", 2)):
        for command in (("cat",), ("get", "-o", "x"), ("stat",), ("rm", "--yes")):
            done = run(*command, text)
            assert done.code == code
            assert len(done.err.splitlines()) == 1


def test_reading_commands_make_no_store(run: Cli, tmp_path: Path) -> None:
    for args in (("ls",), ("stat", "0" * 8), ("cat", "0" * 8), ("get", "0" * 8, "-o", "x"), ("rm", "--yes", "0" * 8)):
        done = run(*args)
        assert done.code == 1
        assert "no store" in done.err
        assert "--root" in done.err
    assert os.listdir(tmp_path) == []


def test_the_environment_names_the_store_and_is_checked(
    run: Cli,
    hello: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from graviton.cli.app import run as run_bare

    monkeypatch.setenv("GRAVITON_FS_ROOT", str(tmp_path / "elsewhere"))
    assert run_bare(["put", str(hello[0])]) == 0
    assert (tmp_path / "elsewhere").is_dir()
    monkeypatch.setenv("GRAVITON_TYPO", "x")
    assert run_bare(["ls"]) == 0
    assert "GRAVITON_TYPO" in capfd.readouterr().err
    assert run_bare(["ls", "-q"]) == 0
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("GRAVITON_HASH", "crc32")
    assert run_bare(["ls"]) == 1
    assert "GRAVITON_HASH" in capfd.readouterr().err


def test_another_folder_is_no_store_and_is_not_touched(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = hello
    run("put", path)
    other = Cli(tmp_path / "other", run._capfd)
    other("put", path)
    (run.root / "graviton-store.json").write_bytes((other.root / "graviton-store.json").read_bytes())
    for args in (("put", path), ("ls",)):
        done = run(*args)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1
        assert run(*args, "--json").objects[0]["error"] == "config"


def test_help_loads_no_command_and_names_all(run: Cli) -> None:
    loaded = [name for name in sys.modules if name.startswith("graviton.cli.")]
    out = run("--help").out
    assert all(name in out for name in COMMANDS)
    assert [name for name in sys.modules if name.startswith("graviton.cli.")] == loaded


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_that_begins_as_the_table_says(run: Cli, name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: graviton {name}")


def test_the_table_names_what_is_there() -> None:
    import click

    with click.Context(cli) as context:
        for name in COMMANDS:
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name


def test_a_bug_is_one_line_without_debug(run: Cli, hello: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("graviton.assembly.store.Store.put", broken)
    done = run("put", hello[0])
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "--debug" in done.err
    assert "Traceback" in run("put", hello[0], "--debug").err
