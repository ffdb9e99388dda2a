"""The progress bar: who shows one, that nothing is left of it, and that nobody sees one who does not look."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli_process import MIB, Cli, start, stored
from tests.integration.terminal import ERASE, Screen, Terminal

# real processes


def test_a_bar_is_shown_on_a_terminal_only(tmp_path: Path, root: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(33 * MIB))
    args = ("put", tmp_path / "big", "--limit-rate", "50MB")
    terminal = Terminal(root, *args)
    assert terminal.end() == 0
    assert "/33.0 MiB " in terminal.text
    assert "B/s 0:00:0" in terminal.text
    assert " left" in terminal.text
    assert b"\x1b[?25l" not in terminal.shown, "a cursor that is hidden stays so if the process is stopped or killed"
    [line] = terminal.lines
    assert line.endswith(f"  {tmp_path / 'big'}"), "nothing is left of the bar"
    process = start(root, *args[:2])
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err, ERASE.encode() in out) == (0, b"", False)
    for option in ("--quiet", "--json"):
        terminal = Terminal(root, *args, option)
        assert terminal.end() == 0
        assert b"\x1b[" not in terminal.shown


def test_lines_that_are_printed_meanwhile_stand_alone(tmp_path: Path, root: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "abcdefgh":
        (tree / name).write_bytes(os.urandom(MIB))
    os.mkfifo(tree / "pipe")
    terminal = Terminal(root, "put", "-r", tree, "--limit-rate", "6MB")
    assert terminal.end() == 0
    assert f"{ERASE}tree " in terminal.text
    *files, listing = [line for line in terminal.lines if line.startswith("blake3:")]
    [skipped] = [line for line in terminal.lines if not line.startswith("blake3:")]
    assert sorted(line.split("  ")[1] for line in files) == [f"{tree}/{name}" for name in "abcdefgh"]
    assert listing.split("  ")[1] == str(tree)
    assert skipped == f"graviton: skipped {tree}/pipe: it is a pipe"


@pytest.mark.parametrize("options", [(), ("--limit-rate", "1GB")])
def test_of_a_pipe_the_bytes_so_far_are_shown(root: Path, options: tuple[str, ...]) -> None:
    terminal = Terminal(root, "put", "-", *options, stdin=subprocess.PIPE)
    assert terminal.process.stdin is not None
    with terminal.process.stdin as pipe:
        for _ in range(10):
            pipe.write(bytes(MIB // 8))
            time.sleep(0.1)
    assert terminal.end() == 0
    assert f"{ERASE}standard input " in terminal.text
    assert " 1.2/? MiB " in terminal.text or " 1.1/? MiB " in terminal.text
    assert "B/s 0:00:0" in terminal.text
    assert " left" not in terminal.text
    assert [line.split("  ")[1] for line in terminal.lines] == ["-"]


def test_what_is_typed_is_not_disturbed(root: Path) -> None:
    terminal = Terminal(root, "put", "-")
    time.sleep(1)
    terminal.type(b"hello\n\x04")
    assert terminal.end() == 0
    assert b"\x1b[" not in terminal.shown
    assert terminal.lines[-1].endswith(":6  -")


def test_an_interrupt_takes_the_bar_away(tmp_path: Path, root: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(8 * MIB))
    terminal = Terminal(root, "put", tmp_path / "big", "--limit-rate", "1MB")
    while b" left" not in terminal.shown:
        time.sleep(0.01)
    terminal.process.send_signal(2)
    assert terminal.end() == 130
    [line] = terminal.lines
    assert line.startswith("graviton: interrupted")


def test_a_terminal_that_cannot_erase_has_none(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    (tmp_path / "file").write_bytes(os.urandom(MIB))
    terminal = Terminal(root, "put", tmp_path / "file", "--limit-rate", "1MB")
    assert terminal.end() == 0
    assert b"\x1b[" not in terminal.shown


@pytest.mark.parametrize(("size", "shows"), [(33 * MIB, True), (31 * MIB, False)])
def test_a_get_into_a_pipe_shows_one_if_it_is_no_text_for_a_pager(root: Path, size: int, shows: bool) -> None:
    data = os.urandom(size)
    blob = stored(root, data)
    for target in ((), ("-o", "/dev/fd/1")):
        terminal = Terminal(root, "get", blob, *target, stdout=subprocess.PIPE)
        assert terminal.process.stdout is not None
        with terminal.process.stdout as pipe:
            got = pipe.read(1)
            time.sleep(1)
            got += pipe.read()
        assert terminal.end() == 0
        assert got == data
        assert (b"/33.0 MiB" in terminal.shown) == shows


def test_bytes_that_go_to_the_terminal_are_not_mixed_with_a_bar(root: Path) -> None:
    data = b"0123456789abcde\n" * (33 * MIB // 16)
    terminal = Terminal(root, "get", stored(root, data), "-o", "-")
    assert terminal.end() == 0
    assert terminal.shown.replace(b"\r\n", b"\n") == data


# every long command, in this process, with a bar that begins at once


@pytest.fixture
def watched(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command with a terminal as standard error; what that showed."""
    monkeypatch.setattr("graviton.cli.progress._BEGIN_SECONDS", 0)
    monkeypatch.setattr("graviton.cli.progress._TICK_SECONDS", 0)

    def call(*args: str | Path) -> str:
        screen = Screen()
        with monkeypatch.context() as patch, open(screen.theirs, "w") as stderr:
            patch.setattr(sys, "stderr", stderr)
            assert run(*args).code == 0
        screen.close()
        assert not any(" 0:00:0" in line for line in screen.lines), "nothing is left of it"
        return screen.text

    return call


def test_every_long_command_shows_one(run: Cli, watched: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(MIB))
    (tmp_path / "big").write_bytes(os.urandom(5 * MIB))
    [blob] = run("put", "big").ids
    [*_, listing] = run("put", "-r", "tree").ids
    for args, label, end in (
        (("put", "big"), "big", "/5.0 MiB "),
        (("put", "-r", "tree"), "tree", " 0:00:00"),
        (("get", blob, "-o", "copy"), "copy", "/5.0 MiB "),
        (("get", listing, "-o", "tree2"), "tree2", "/1.0 MiB "),
        (("verify", "--all"), "verifying", "/6.0 MiB "),
        (("verify", blob, "--quick"), "verifying", "/5.0 MiB "),
        (("chunk", "big"), "big", "/5.0 MiB "),
        (("meta", "backup", "saved"), "backing up", " 0:00:00"),
        (("meta", "repair-totals"), "counting", " 0:00:00"),
        (("--root", "elsewhere", "meta", "restore", "saved"), "restoring", " 0:00:00"),
    ):
        shown = watched(*args)
        assert f"{ERASE}{label} " in shown, args
        assert end in shown, args
        for option in ("--json", "--quiet"):
            again = [*args, "--force"] if "backup" in args else args
            if "restore" not in args:
                assert ERASE not in watched(*again, option)
