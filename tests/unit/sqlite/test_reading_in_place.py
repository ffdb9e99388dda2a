"""Reads on threads of others, with connections that the store's own reading threads care for."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.backends.sqlite._connection import connect
from graviton.concurrency.executors import in_own_thread
from graviton.errors import Unavailable
from graviton.ports.kv import ReadTransaction
from graviton.testing.conformance.checks import in_place
from tests.unit.sqlite.test_fork import run


class _Counted:
    """Opens connections, and knows which are open."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    def __call__(self, name: str, config: SqliteConfig) -> sqlite3.Connection:
        counted = self
        counted.opened += 1

        class Told(sqlite3.Connection):
            def close(self) -> None:
                counted.closed += 1
                super().close()

        made = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, factory=Told)
        made.text_factory = bytes
        return made


def _readers() -> int:
    return sum(thread.name.startswith("graviton-sqlite-reader") for thread in threading.enumerate())


async def test_connections_are_opened_once_and_closed_at_the_end(tmp_path: Path) -> None:
    counted = _Counted()
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"), connect=counted)
    await store.put("a", b"key", b"value")
    assert await store.get("a", b"key") == b"value"
    before = counted.opened
    for _ in range(10):
        assert await in_own_thread(in_place, lambda: store.get("a", b"key")) == b"value"
        assert await store.get("a", b"key") == b"value"
    assert counted.opened == before, "the one that is idle is used"
    await store.aclose()
    assert counted.opened == counted.closed
    assert _readers() == 0


async def test_the_end_waits_for_a_read_in_place(tmp_path: Path) -> None:
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"))
    await store.put("a", b"key", b"value")
    begun, go_on = threading.Event(), threading.Event()

    def slow(tx: ReadTransaction) -> bytes | None:
        begun.set()
        assert go_on.wait(30)
        return tx.get("a", b"key")

    reading = asyncio.ensure_future(in_own_thread(in_place, lambda: store.read(slow)))
    await in_own_thread(begun.wait, 30)
    closing = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0.05)
    assert not closing.done()
    go_on.set()
    assert await reading == b"value"
    await closing
    with pytest.raises(Unavailable, match="closed"):
        await in_own_thread(in_place, lambda: store.get("a", b"key"))
    assert _readers() == 0
    assert not (tmp_path / "meta.sqlite-wal").exists(), "the writer was the last"


async def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    store = SqliteKeyValueStore(SqliteConfig(tmp_path / "meta.sqlite"), connect=_no_handles)
    with pytest.raises(Unavailable):
        await in_own_thread(in_place, lambda: store.get("a", b"key"))
    await store.aclose()


def _no_handles(name: str, config: SqliteConfig) -> sqlite3.Connection:
    if "meta" in name:
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN"
        raise error
    return connect(name, config)


def test_a_child_that_ends_in_order_leaves_idle_connections_alone(tmp_path: Path) -> None:
    """They are in the care of a thread that the fork cut off: nobody takes them apart, though the thread that read was
    the caller's. With the last connection of what looks like a process SQLite would remove the WAL."""
    run(
        """
from graviton.testing.conformance.checks import in_place
import gc
store = opened()
loop.run_until_complete(store.put("a", b"first", b""))
assert in_place(lambda: store.get("a", b"first")) == b""
pid = os.fork()
if pid == 0:
    del store
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
loop = asyncio.new_event_loop()  # the child closed the other one, with which the parent waited
assert path.with_name("meta.sqlite-wal").exists()
loop.run_until_complete(store.put("a", b"second", b""))
assert in_place(lambda: store.get("a", b"second")) == b""
loop.run_until_complete(store.aclose())
assert loop.run_until_complete(keys()) == [b"first", b"second"]

async def child():
    try:
        in_place(lambda: forked.get("a", b"first"))
    except Unavailable as error:
        assert "fork" in str(error), error
    else:
        raise AssertionError("used a store of the parent")

def hold():
    with forked._readers._connections._changed:
        held.set()
        go_on.wait(30)

forked = opened()
held, go_on = threading.Event(), threading.Event()
assert in_place(lambda: forked.get("a", b"first")) == b""
other = threading.Thread(target=hold)
other.start()
held.wait(30)
in_a_child(child)
go_on.set()
other.join()
loop.run_until_complete(forked.aclose())
""",
        tmp_path,
    )
