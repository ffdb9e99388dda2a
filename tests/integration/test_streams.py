"""Standard streams of real processes: pipes, terminals, closed and full ones; and what a start must not load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graviton._version import __version__
from tests.integration.cli_process import children_env, ended, listed, start, stored, wait_for
from tests.integration.terminal import Terminal


def test_version_needs_neither_event_loop_nor_parser() -> None:
    code = "import sys; from graviton.cli.main import main; main(['--version']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=children_env())
    version, modules = out.stdout.splitlines()
    assert version == f"graviton {__version__}"
    heavy = {"asyncio", "click", "rich", "dataclasses", "inspect", "json", "graviton.errors"}
    assert not heavy & set(modules.split())


def test_stat_loads_nothing_it_does_not_need(root: Path) -> None:
    blob = stored(root, b"x")
    code = f"import sys; from graviton.cli.main import main; main(['stat', {blob!r}]); print(*sys.modules)"
    env = children_env() | {"GRAVITON_FS_ROOT": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "sqlite3" in modules
    assert not {"rich", "tempfile", "email", "urllib.request", "graviton.services.tree_put", "pytest"} & modules


def test_standard_input_is_stored(root: Path) -> None:
    process = start(root, "put", "-", "--json", stdin=subprocess.PIPE)
    out, _ = process.communicate(b"from a pipe", timeout=60)
    result = json.loads(out)
    assert (result["size"], result["path"]) == (11, "-")
    _, out, _ = ended(start(root, "stat", result["id"], "--json"))
    assert json.loads(out)["name"] is None


def test_closed_standard_input_is_an_error(root: Path) -> None:
    script = f"exec {sys.executable} -m graviton.cli.main put - <&-"
    done = subprocess.run(
        ["sh", "-c", script], env=children_env() | {"GRAVITON_FS_ROOT": str(root)}, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"closed" in done.stderr
    assert not root.exists()


@pytest.mark.parametrize("args", ["put FILE", "put FILE --json", "ls", "ls --json", "stat ID", "cat ID", "get ID"])
def test_closed_standard_output_is_an_error_in_one_line(tmp_path: Path, root: Path, args: str) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    (tmp_path / "new").write_bytes(b"new")
    blob = ended(start(root, "put", tmp_path / "file"))[1].split()[0]
    script = f"exec {sys.executable} -m graviton.cli.main {args} >&-".replace("ID", blob)
    done = subprocess.run(
        ["sh", "-c", script.replace("FILE", str(tmp_path / "new"))],
        env=children_env() | {"GRAVITON_FS_ROOT": str(root)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert "standard output is closed" in line
    assert ended(start(root, "verify", "--all"))[0] == 0
    assert len(ended(start(root, "ls"))[1].splitlines()) == 1, "nothing was put whose id nobody saw"


def test_a_reader_that_has_seen_enough_is_no_error_worth_a_word(tmp_path: Path, root: Path, big: str) -> None:
    for args in (("cat", big), ("get", big)):
        process = start(root, *args)
        assert process.stdout is not None
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()


def test_ls_into_a_closed_pipe_is_quiet(root: Path, big: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = start(root, "ls", stdout=write_end)
    os.close(write_end)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"")


def test_a_full_standard_output_is_told(root: Path, big: str) -> None:
    with open("/dev/full", "wb") as full:
        for args in (("ls",), ("get", big)):
            process = start(root, *args, stdout=full)
            _, err = process.communicate(timeout=30)
            assert process.returncode == 1
            assert len(err.splitlines()) == 1
            assert b"No space left" in err


def test_a_slow_reader_gets_every_byte_in_order(tmp_path: Path, root: Path, big: str) -> None:
    process = start(root, "get", big)
    assert process.stdout is not None
    got = bytearray()
    while piece := process.stdout.read1(300_000):
        got += piece
        if len(got) % 7 == 0:
            time.sleep(0.01)
    process.communicate()
    assert process.returncode == 0
    assert got == (tmp_path / "big").read_bytes()


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_redirected_output_is_written_in_order(tmp_path: Path, root: Path, big: str, mode: str) -> None:
    target = tmp_path / "redirected"
    target.write_bytes(b"before")
    with open(target, mode) as out:
        process = start(root, "cat", big, stdout=out)
        process.communicate(timeout=60)
    expected = (b"before" if mode == "ab" else b"") + (tmp_path / "big").read_bytes()
    assert target.read_bytes() == expected


def test_bytes_are_not_thrown_at_a_terminal(root: Path, big: str) -> None:
    terminal = Terminal(root, "get", big)
    assert terminal.end() == 2
    assert b"-o FILE" in terminal.shown
    assert len(terminal.shown) < 500


def test_cat_on_a_terminal_is_meant(root: Path) -> None:
    terminal = Terminal(root, "cat", stored(root, b"some text\n"))
    assert terminal.end() == 0
    assert terminal.shown == b"some text\r\n"


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 1), (b"\n", 1, 1), (b"\x03", 130, 1)])
def test_rm_asks_about_a_shortened_id(root: Path, big: str, answer: bytes, code: int, left: int) -> None:
    # A session of its own would be needed for the terminal to turn ^C into a signal: it is sent by hand.
    terminal = Terminal(root, "rm", big[:20])
    wait_for(lambda: b"[y/N]" in terminal.shown)
    assert big.encode() in terminal.shown
    if answer == b"\x03":
        terminal.process.send_signal(signal.SIGINT)
    else:
        terminal.type(answer)
    assert terminal.end() == code
    assert len(listed(root)) == left
