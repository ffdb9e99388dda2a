"""Ctrl-C and SIGTERM at any moment: one line, nothing half done, nothing left behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import graviton.sync
from graviton.core.keys import BlobKey
from tests.integration.cli_process import MIB, children_env, ended, listed, start, stored, temporary_files, wait_for


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [(), ("--limit-rate", "1MB")])
def test_a_put_of_a_silent_pipe_is_interrupted(root: Path, signum: int, code: int, options: tuple[str, ...]) -> None:
    process = start(root, "put", "-", *options, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b"some bytes, then silence")
    process.stdin.flush()
    wait_for(lambda: _is_waiting(process.pid))
    process.send_signal(signum)
    began = time.monotonic()
    assert process.wait(30) == code
    assert time.monotonic() - began < 5
    _, err = process.communicate()
    assert len(err.splitlines()) == 1
    assert b"interrupted" in err
    assert temporary_files(root) == []


def _is_waiting(pid: int) -> bool:
    """Whether the put has read what its pipe had, and a thread polls for more."""
    threads = os.listdir(f"/proc/{pid}/task")
    try:
        names = [Path(f"/proc/{pid}/task/{thread}/wchan").read_text() for thread in threads]
    except OSError:
        return False  # one of them has ended since: look again
    if not any("poll" in name for name in names) or len(threads) < 2:
        return False
    fd = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0") == b"\0\0\0\0"
    finally:
        os.close(fd)


INTERRUPTING = """
import atexit, importlib, os, signal, sys
place, sys.argv = sys.argv[1], ["graviton", *sys.argv[2:]]

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

def interrupting(real):
    def call(*args, **values):
        interrupt()
        return real(*args, **values)
    return call

if place == "atexit":
    atexit.register(interrupt)
elif place == "finaliser":
    class Dying:
        def __del__(self):
            interrupt()
    import graviton.cli
    graviton.cli.app = Dying()  # until the module of that name is loaded
else:
    owner, _, name = place.rpartition(".")
    module, _, cls = owner.partition(":")
    owner = importlib.import_module(module)
    owner = getattr(owner, cls) if cls else owner
    setattr(owner, name, interrupting(getattr(owner, name)))

from graviton.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("graviton.cli.main._fill_standard_descriptors", 130),
        ("graviton.cli.app.run", 130),
        ("graviton.cli.putting:Wishes.parse", 130),
        ("asyncio:Runner.__init__", 130),
        ("asyncio:Runner.get_loop", 130),
        ("asyncio:Runner.run", 130),
        ("asyncio:Runner.close", 0),
        ("graviton.assembly.store:Store.aclose", 130),
        ("atexit", 0),
        ("finaliser", 130),
    ],
)
def test_an_interrupt_is_one_line_at_any_moment(tmp_path: Path, root: Path, place: str, code: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", INTERRUPTING, place, "put", source],
            env=children_env() | {"GRAVITON_FS_ROOT": str(root)},
            capture_output=True,
            check=False,
            timeout=60,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == code, done.stderr
    lines = done.stderr.decode().splitlines()
    assert [line.split(";")[0] for line in lines] == ["graviton: interrupted"] * (done.returncode == 130)


def began(err: str) -> bool:
    """Whether the command had begun. Before that the interpreter's own handling ends it, with a traceback or by the
    signal, and on a slow machine that is long."""
    return "Traceback" not in err or "graviton/cli/main.py" in err


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.3, 0.4, 0.6])
def test_a_put_interrupted_at_any_moment_is_whole_or_nothing(tmp_path: Path, root: Path, delay: float) -> None:
    first = stored(root, b"first")
    source = tmp_path / "big"
    source.write_bytes(os.urandom(16 * MIB))
    process = start(root, "put", source, "--json")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert code in (0, 130, -signal.SIGINT) or not began(err)
    assert "Traceback" not in err or not began(err)
    assert temporary_files(root) == []
    blobs = listed(root)
    assert first in blobs
    if code == 0:
        assert json.loads(out)["id"] in blobs
    elif code == 130 and out:
        assert json.loads(out.splitlines()[-1])["error"] == "interrupted"
    blob = stored(root, source)
    assert set(blobs) <= {first, blob}
    with graviton.sync.open(root) as store:
        assert store.get(BlobKey.parse(blob)).read() == source.read_bytes()


def test_a_slow_put_is_interrupted_in_the_middle(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(8 * MIB))
    process = start(root, "put", source, "--limit-rate", "4MB", "--chunker", "small")
    wait_for(lambda: _blocks(root) > 0 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130
    assert err.startswith("graviton: interrupted")
    assert temporary_files(root) == []
    assert listed(root) == []


def _blocks(root: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(root / "cas"))


def test_a_tree_is_interrupted(tmp_path: Path, root: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number:02}").write_bytes(os.urandom(MIB))
    process = start(root, "put", "-r", tree, "--limit-rate", "5MB")
    assert process.stdout is not None
    assert process.stdout.readline().count(b":") == 2
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert code == 130
    assert "Traceback" not in err
    assert temporary_files(root) == []
    assert f"  {tree}\n" not in out, "no listing of half a tree"


@contextmanager
def sleeping_reader(path: Path) -> Iterator[None]:
    """Somebody who opened a FIFO and does not read."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield
    finally:
        os.close(fd)


@pytest.mark.parametrize("to", ["pipe", "fifo", "socket"])
def test_a_get_is_interrupted_while_nobody_reads(tmp_path: Path, root: Path, big: str, to: str) -> None:
    import socket

    ours, theirs = socket.socketpair()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ours, theirs, sleeping_reader(fifo):
        if to == "fifo":
            process = start(root, "get", big, "-o", fifo)
        else:
            process = start(root, "get", big, stdout=subprocess.PIPE if to == "pipe" else theirs)
        time.sleep(1)
        assert process.poll() is None, "it waits for its reader"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        process.communicate()


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.4])
def test_a_get_interrupted_at_any_moment_leaves_no_half_file(
    tmp_path: Path, root: Path, big: str, delay: float
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    process = start(root, "get", big, "-o", folder / "file")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert "Traceback" not in err or not began(err)
    if code == 0 or os.listdir(folder) == ["file"]:  # the signal may come between the rename and the end
        assert (folder / "file").read_bytes() == (tmp_path / "big").read_bytes()
    else:
        assert os.listdir(folder) == []
