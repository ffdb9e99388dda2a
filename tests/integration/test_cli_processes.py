from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import graviton.sync
from graviton._version import __version__
from graviton.core.keys import BlobKey
from tests.integration.cli_process import children_env, start, wait_for
from tests.integration.terminal import Terminal

MIB = 1024 * 1024


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def big(tmp_path: Path, root: Path) -> str:
    """The id of 24 MiB in the store."""
    (tmp_path / "big").write_bytes(os.urandom(24 * MIB))
    return stored(root, tmp_path / "big")


def temporary_files(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names if ".tmp" in name]


def stored(root: Path, source: Path | bytes) -> str:
    """The id of `source`, put by this process, which is faster."""
    with graviton.sync.open(root) as store:
        return store.put(source).id


def listed(root: Path) -> list[str]:
    with graviton.sync.open(root) as store:
        return [found.key.text for found in store.list()]


# exit codes and streams of a real process


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


# interrupts


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
    names = [Path(f"/proc/{pid}/task/{thread}/wchan").read_text() for thread in threads]
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


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.3, 0.4, 0.6])
def test_a_put_interrupted_at_any_moment_is_whole_or_nothing(tmp_path: Path, root: Path, delay: float) -> None:
    first = stored(root, b"first")
    source = tmp_path / "big"
    source.write_bytes(os.urandom(16 * MIB))
    process = start(root, "put", source, "--json")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    assert code in (0, 130, -signal.SIGINT), "before Python listens, the system's own handling ends it"
    assert "Traceback" not in err or code == -signal.SIGINT
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
    assert "Traceback" not in err
    if code == 0 or os.listdir(folder) == ["file"]:  # the signal may come between the rename and the end
        assert (folder / "file").read_bytes() == (tmp_path / "big").read_bytes()
    else:
        assert os.listdir(folder) == []


# pipes and terminals


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


# trees


def test_a_tree_with_the_store_in_it_comes_back(tmp_path: Path) -> None:
    tree, back = tmp_path / "tree", tmp_path / "back"
    root = tree / ".graviton"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_bytes(b"file")
    (tree / "run").write_bytes(b"#!/bin/sh\n")
    os.chmod(tree / "run", 0o755)
    (tree / "link").symlink_to("a/b")
    os.utime(tree / "a", ns=(1, 1_500_000_000_000_000_001))
    code, out, err = ended(start(root, "put", "-r", tree, "--json"))
    assert code == 0
    assert ".graviton" in err
    *files, listing = map(json.loads, out.splitlines())
    assert sorted(Path(each["path"]).name for each in files) == ["file", "run"]
    assert (listing["type"], listing["entries"], listing["path"]) == ("listing", 5, str(tree))
    code, out, err = ended(start(root, "get", listing["id"], "-o", back, "--json"))
    assert (code, err) == (0, "")
    assert json.loads(out).items() >= {"id": listing["id"], "entries": 5, "files": 2, "failed": 0}.items()
    assert sorted(os.listdir(back)) == ["a", "link", "run"]
    assert (back / "link/file").read_bytes() == b"file"
    assert stat.S_IMODE((back / "run").stat().st_mode) == 0o755
    assert (back / "a").stat().st_mtime_ns == 1_500_000_000_000_000_001
    code, out, _ = ended(start(root, "cat", listing["id"]))
    assert out.startswith("graviton-listing 1\n")
    code, _, err = ended(start(root, "get", listing["id"], "-o", back / "run"))
    assert code == 1
    assert "not a folder" in err


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path, root: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good").write_bytes(b"good")
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "pipe")
    code, out, err = ended(start(root, "put", "-r", "--follow", tree))
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "loop" in err
    assert "skipped" in err
    _, text, _ = ended(start(root, "cat", out.splitlines()[-1].split()[0]))
    assert "good" in text
    assert "loop" not in text


def test_a_file_that_is_written_to_while_it_is_put_is_stored_as_read(tmp_path: Path, root: Path) -> None:
    from blake3 import blake3

    source = tmp_path / "growing"
    source.write_bytes(os.urandom(4 * MIB))
    stop = threading.Event()

    def write() -> None:
        with open(source, "ab") as file:
            while not stop.is_set() and file.tell() < 64 * MIB:
                file.write(os.urandom(64 * 1024))
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    code, out, _ = ended(start(root, "put", source))
    stop.set()
    writer.join()
    assert code == 0
    _, digest, size = out.split("  ")[0].split(":")
    assert int(size) >= 4 * MIB
    assert blake3(source.read_bytes()[: int(size)]).hexdigest() == digest


def test_a_file_that_is_truncated_while_it_is_put_never_gets_a_wrong_id(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "shrinking"
    source.write_bytes(os.urandom(8 * MIB))
    process = start(root, "put", source, "--limit-rate", "8MB")
    wait_for(lambda: process.poll() is not None or _position(process.pid, source) > MIB)
    os.truncate(source, MIB)
    code, out, err = ended(process)
    assert code == 0
    assert "shrinking changed while it was read" in err
    blob = out.split("  ")[0]
    assert MIB < int(blob.split(":")[2]) < 8 * MIB
    code, _, err = ended(start(root, "get", blob, "-o", tmp_path / "back"))
    assert (code, err) == (0, "")


def _position(pid: int, path: Path) -> int:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}") == str(path):
                return int(Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()[1])
        except FileNotFoundError:
            continue
    return 0
