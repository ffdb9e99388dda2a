"""Wrong usage is exit code 2 and one line that says what is right, and touches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli_process import Cli


@pytest.mark.parametrize("group", ["store", "meta"])
def test_a_group_without_its_command_says_so_in_one_line(run: Cli, group: str) -> None:
    done = run(group)
    assert done.code == 2
    assert done.err == f"graviton: a command is missing. Try `graviton {group} --help`.\n"


@pytest.mark.parametrize(
    "args", [["get", "0" * 8, "-o", ""], ["--root", "", "ls"], ["put", ""], ["meta", "backup", ""]]
)
def test_an_empty_path_is_wrong_usage(run: Cli, hello: tuple[Path, str], args: list[str]) -> None:
    run("put", hello[0])
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert "a path is not empty" in done.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--chunker", "bogus"),
        ("--chunker", ""),
        ("--chunker", "w16:1:2:3"),
        ("--hash", "md5"),
        ("--mime", "nothing"),
        ("--attr", "novalue"),
        ("--attr", "=x"),
        ("--attr", "a b=x"),
        ("--limit-rate", "fast"),
        ("--limit-rate", "0"),
    ],
)
def test_a_malformed_option_is_wrong_usage_and_named(run: Cli, option: str, value: str) -> None:
    done = run("put", "x", option, value)
    assert done.code == 2
    assert done.out == ""
    assert option in done.err
    assert len(done.err.splitlines()) == 1
    assert option != "--chunker" or run("chunk", "x", option, value).err == done.err.replace(" put", " chunk")
    [error] = run("put", "x", option, value, "--json").objects
    assert error["error"] == "invalid_input"
    assert not run.root.exists()


def test_follow_goes_with_recursive(run: Cli) -> None:
    assert run("put", "--follow", "x").code == 2


LONG = "a" * 70_000


@pytest.mark.parametrize(
    "args",
    [
        ["put", "x", "--attr", f"big={LONG}"], ["put", "x", "--attr", f"{LONG}={LONG}"], ["put", "x", "--mime", LONG],
        ["put", "x", "--hash", LONG], ["cat", LONG], ["cat", f"{LONG}:{LONG}:1"], ["rm", f"blake3:{LONG}"],
        ["ls", "--limit", LONG], [LONG], ["put", f"--{LONG}"], ["ls", "--prefix", LONG],
        ["get", "00000000", "--range", f"5-{LONG}"], ["store", "check", "--port", LONG],
    ],
)  # fmt: skip
def test_what_was_typed_is_repeated_and_bounded(run: Cli, hello: tuple[Path, str], args: list[str]) -> None:
    run("put", hello[0])
    done = run(*args)
    assert done.code == 2
    assert 20 < len(done.err) < 1000
    assert len(run(*args, "--json").out) < 1000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["put", "--vorbose", "x"], "'--verbose'? Try `graviton put --help`."),
        (["put", "x", "--chunker", "fixed:1"], "fixed-v1: size is at least 64 bytes"),
        (["put", "x", "--chunker", "fixed:17MiB"], "fixed-v1: size is at most"),
        (["ls", "--prefix", "zz"], "--prefix: no id begins with 'zz'"),
        (["ls", "--prefix", "blake3:zz"], "--prefix: no id begins with 'blake3:zz'"),
    ],
)
def test_wrong_usage_says_what_is_right(run: Cli, hello: tuple[Path, str], args: list[str], said: str) -> None:
    run("put", hello[0])
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize("args", [[], ["frob"], ["put"], ["put", "--frob", "x"], ["get"], ["ls", "--limit", "x"]])
def test_wrong_usage_is_one_line_and_exit_2(run: Cli, args: list[str]) -> None:
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "--help" in done.err
    done = run("--json", *args)
    assert done.code == 2
    assert [each["error"] for each in done.objects] == ["invalid_input"]
