"""A process that forks while a store is open: what its child may and may not do. Each case is a program of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.forking import run_program

run = partial(
    run_program,
    """
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore

path = folder / "meta.sqlite"

def opened(path=path):
    return SqliteKeyValueStore(SqliteConfig(path))
""",
)


def test_a_file_that_was_open_during_the_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    """SQLite in the child believed in locks that only the parent had: when the parent closed its store it took itself
    for the last user and deleted the WAL, and what the child was told is durable after that was gone."""
    run(
        """
store = opened()
loop.run_until_complete(store.put("a", b"parent", b""))

async def child():
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    for own in (opened(), opened(link)):
        for work in (own.put("a", b"child", b""), own.get("a", b"parent")):
            try:
                await work
            except Unavailable as error:
                assert "fork" in str(error) and "spawn" in error.hint, error
            else:
                raise AssertionError("used a file whose locks are the parent's")
        await own.aclose()
    other = opened(path.with_name("other.sqlite"))  # this one the parent never opened
    await other.put("a", b"child", b"")
    await other.aclose()

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
assert loop.run_until_complete(keys(path.with_name("other.sqlite"))) == [b"child"]
""",
        tmp_path,
    )


def test_a_store_that_was_closed_before_the_fork_may_be_opened_in_the_child(tmp_path: Path) -> None:
    run(
        """
async def use(key):
    store = opened()
    await store.put("a", key, b"")
    assert key in [key async for key, _ in store.scan("a")]
    await store.aclose()

loop.run_until_complete(use(b"parent"))
in_a_child(lambda: use(b"child"))
assert loop.run_until_complete(keys()) == [b"child", b"parent"]
""",
        tmp_path,
    )


def test_a_child_that_ends_in_order_leaves_the_open_transaction_of_its_parent_alone(tmp_path: Path) -> None:
    """Python takes everything apart at the end of a process; were the connection closed there, SQLite would roll back
    in memory that it shares with the parent."""
    run(
        """
begun, go_on = threading.Event(), threading.Event()
store = opened()

def large(tx):
    tx.put_many("a", [(b"%06d" % n, b"x" * 1000) for n in range(10_000)])  # more than the cache: it is in the WAL
    begun.set()
    assert go_on.wait(30)

loop.run_until_complete(store.put("a", b"first", b""))
writing = loop.create_task(store.transact(large))
loop.run_until_complete(asyncio.to_thread(begun.wait, 30))
pid = os.fork()
if pid == 0:
    import gc
    del store, writing, loop
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
go_on.set()
loop.run_until_complete(writing)
assert len(loop.run_until_complete(keys())) == 10_001
loop.run_until_complete(store.aclose())
assert len(loop.run_until_complete(keys())) == 10_001
""",
        tmp_path,
    )


def test_a_child_does_not_wait_for_a_lock_that_was_held_during_the_fork(tmp_path: Path) -> None:
    """The thread that would give it back is the parent's."""
    run(
        """
import signal
store = opened()
loop.run_until_complete(store.put("a", b"parent", b""))
held, forked = threading.Event(), threading.Event()

def hold():
    with store._lock, store._readers._crew._jobs.lock:
        held.set()
        forked.wait(30)

other = threading.Thread(target=hold)
other.start()
held.wait(30)

async def child():
    signal.alarm(10)  # ends a child that hangs
    for work in (store.put("a", b"child", b""), store.get("a", b"parent")):
        try:
            await work
        except Unavailable as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("used a store of the parent")
    await store.aclose()

try:
    in_a_child(child)
finally:
    forked.set()
    other.join()
loop.run_until_complete(store.aclose())
""",
        tmp_path,
    )
