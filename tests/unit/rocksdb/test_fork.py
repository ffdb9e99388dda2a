"""A process that forks while RocksDB is or was in use: its child may not use it. Each case is a program of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.forking import run_program

run = partial(
    run_program,
    """
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore

path = folder / "meta.rocks"

def opened(path=path):
    return RocksKeyValueStore(RocksConfig(path))
""",
)


def test_nothing_of_rocksdb_can_be_used_in_a_child_once_it_was_used_before(tmp_path: Path) -> None:
    run(
        """
store = opened()
loop.run_until_complete(store.put("a", b"parent", b""))
closed = opened(path.with_name("closed.rocks"))
loop.run_until_complete(closed.put("a", b"parent", b""))
loop.run_until_complete(closed.aclose())

async def child():
    for own in (store, opened(), opened(path.with_name("closed.rocks")), opened(path.with_name("new.rocks"))):
        for work in (own.put("a", b"child", b""), own.get("a", b"parent")):
            try:
                await work
            except Unavailable as error:
                assert "fork" in str(error) and "spawn" in error.hint, error
            else:
                raise AssertionError("used RocksDB without its threads")
        await own.aclose()

    async def grandchild():
        try:
            await keys()
        except Unavailable:
            return
        raise AssertionError("not refused in the second generation")
    in_a_child(grandchild)

in_a_child(child)
loop.run_until_complete(store.put("a", b"parent 2", b""))
loop.run_until_complete(store.aclose())
assert loop.run_until_complete(keys()) == [b"parent", b"parent 2"]
assert not path.with_name("new.rocks").exists()
""",
        tmp_path,
    )


def test_a_child_of_a_process_that_did_not_use_it_may(tmp_path: Path) -> None:
    run(
        """
store = opened()

async def child():
    own = opened()
    await own.put("a", b"child", b"")
    await own.aclose()

in_a_child(child)
assert loop.run_until_complete(keys()) == [b"child"]
""",
        tmp_path,
    )


def test_a_child_that_ends_in_order_leaves_what_its_parent_has_open_alone(tmp_path: Path) -> None:
    """Python takes everything apart at the end of a process; were the store closed there, RocksDB would write its
    memtables into the parent's files, with threads that are not there."""
    run(
        """
import gc, signal
begun, go_on = threading.Event(), threading.Event()
store = opened()

def large(tx):
    tx.put_many("a", [(b"%06d" % n, b"x" * 1000) for n in range(10_000)])
    begun.set()
    assert go_on.wait(30)

def look(tx):
    assert list(tx.scan("a"))
    assert go_on.wait(30)

loop.run_until_complete(store.put("a", b"first", b""))
working = [loop.create_task(store.transact(large)), loop.create_task(store.read(look))]
loop.run_until_complete(asyncio.to_thread(begun.wait, 30))
pid = os.fork()
if pid == 0:
    signal.alarm(10)  # ends a child that hangs
    del store, working, loop
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
go_on.set()
for work in working:
    loop.run_until_complete(work)
assert len(loop.run_until_complete(store.read(lambda tx: list(tx.scan("a"))))) == 10_001
loop.run_until_complete(store.aclose())
assert len(loop.run_until_complete(keys())) == 10_001
""",
        tmp_path,
    )


def test_a_process_that_ends_without_closing_ends_in_order_and_keeps_everything(tmp_path: Path) -> None:
    run(
        """
store = opened()
loop.run_until_complete(store.transact(lambda tx: tx.put_many("a", [(b"%d" % n, b"") for n in range(100)])))
loop.run_until_complete(store.get("a", b"1"))
""",
        tmp_path,
    )
    run("assert len(loop.run_until_complete(keys())) == 100", tmp_path)
