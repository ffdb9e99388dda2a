"""The blocking facade does what the async store does, from any thread."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import graviton.sync
from graviton import BlobKey, NotFound, SmallBlob, Span, Unsupported


@pytest.fixture
def store(tmp_path: Path) -> Iterator[graviton.sync.Store]:
    with graviton.sync.open(tmp_path / "store") as opened:
        yield opened


def test_every_operation(store: graviton.sync.Store, tmp_path: Path) -> None:
    result = store.put(b"hello world")
    with store.get(result.key) as reader:
        assert (reader.key, reader.size) == (result.key, 11)
        assert b"".join(bytes(piece) for piece in reader) == b"hello world"
    assert store.get(result.key, Span(6, 11)).read() == b"world"
    with open(tmp_path / "out", "wb") as file, store.get(result.key) as reader:
        assert reader.write_to(file.fileno()) == 11
    assert (tmp_path / "out").read_bytes() == b"hello world"
    stat = store.stat(result.key)
    assert stat is not None
    assert stat.size == 11
    assert [stat.key for stat in store.list()] == [result.key]
    assert store.totals().blobs == 1
    assert store.delete(result.key)
    assert store.stat(result.key) is None


def test_sources_and_groups(store: graviton.sync.Store) -> None:
    assert store.put(io.BytesIO(b"abc")).key == store.put(iter([b"a", b"bc"])).key
    results = list(store.put_many([b"1", SmallBlob(b"2"), b"1"]))
    assert [result.created for result in results] == [True, True, False]


def test_errors_come_through(store: graviton.sync.Store) -> None:
    store.put(b"x")
    with pytest.raises(NotFound):
        store.get(BlobKey.parse("blake3:" + "0" * 64 + ":5"))


def test_a_source_that_uses_the_facade_is_refused_and_does_not_hang(store: graviton.sync.Store) -> None:
    key = store.put(b"x").key
    with pytest.raises(Unsupported, match=r"graviton\.sync"):
        list(store.put_many(store.get(key).read() for _ in range(3)))
    assert store.put(b"y").created


def test_an_iterator_can_be_left_early(store: graviton.sync.Store) -> None:
    list(store.put_many(b"%d" % n for n in range(20)))
    listing = store.list()
    assert next(listing) is not None
    listing.close()  # type: ignore[attr-defined]
    assert len(list(store.list(limit=7))) == 7


def test_many_threads_share_a_store(store: graviton.sync.Store) -> None:
    keys: list[BlobKey] = []

    def work(n: int) -> None:
        keys.extend(store.put(b"%d-%d" % (n, m)).key for m in range(10))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 60
    assert store.totals().blobs == 60


def test_a_child_made_by_fork_has_a_loop_of_its_own(tmp_path: Path) -> None:
    """Also for what the parent closed before; a store that was open during the fork is refused."""
    code = """
import os, sys, graviton, graviton.sync
with graviton.sync.open(sys.argv[1] + "-closed") as store:
    key = store.put(b"from the parent").key
with graviton.sync.open(sys.argv[1]) as store:
    store.put(b"from the parent")
    child = os.fork()
    if child == 0:
        with graviton.sync.open(sys.argv[1] + "-closed") as mine:
            ok = mine.get(key).read() == b"from the parent" and mine.put(b"from the child").created
        try:
            with graviton.sync.open(sys.argv[1]) as mine:
                mine.put(b"from the child")
            ok = False
        except graviton.Unavailable:
            pass
        os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    assert store.put(b"after the fork").created
with graviton.sync.open(sys.argv[1] + "-closed") as store:
    assert store.totals().blobs == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupt_cancels_the_call_and_leaves_the_store_usable(tmp_path: Path) -> None:
    code = """
import os, sys, graviton.sync
read_end, _ = os.pipe()
with graviton.sync.open(sys.argv[1]) as store:
    store.put(b"first")
    print("ready", flush=True)
    try:
        store.put(open(read_end, "rb", buffering=0))  # says nothing, for ever
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert store.put(b"second").created
    print(store.totals().blobs, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "store")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == "interrupted\n2\n", err
