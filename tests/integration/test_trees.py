"""Trees there and back, and files that change while they are put, by real processes."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

from tests.integration.cli_process import MIB, ended, start, wait_for


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
