"""The pool of workers: how calls begin and end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Coroutine
from functools import partial

import pytest

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool, in_own_thread, in_thread
from graviton.errors import Unavailable


def _refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"graviton-{name}")]


@pytest.mark.parametrize(
    ("planned", "kind"),
    [(KeyError("mine"), KeyError), (StopIteration(), RuntimeError), (SystemExit(3), Unavailable)],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
async def test_whatever_a_call_raises_ends_the_call(planned: BaseException, kind: type[Exception]) -> None:
    """A future takes no StopIteration: who waited for one waited for ever."""
    pool = WorkerPool(1, "test")

    def fn(flag: CancelFlag) -> None:
        raise planned

    with pytest.raises(kind) as caught:
        await asyncio.wait_for(pool.run(fn), 10.0)
    assert planned in (caught.value, caught.value.__cause__)
    assert await pool.run(lambda flag: "next") == "next"
    await pool.close()


async def test_without_a_thread_calls_fail_and_later_ones_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call raised RuntimeError, every later one waited for a thread that had never begun."""

    pool = WorkerPool(2, "test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        for _ in range(3):
            with pytest.raises(Unavailable, match="thread") as caught:
                await pool.run(lambda flag: None)
            assert caught.value.hint
    begun, go_on = threading.Event(), threading.Event()

    def hold(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)

    held = asyncio.ensure_future(pool.run(hold))
    await in_own_thread(begun.wait, 10.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        waiting = asyncio.ensure_future(pool.run(lambda flag: "done"))  # no second thread: it waits for the first
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.wait_for(waiting, 10.0) == "done"
    await held
    await pool.close()


async def test_a_call_that_waits_for_a_thread_can_be_left_at_once_with_its_bytes() -> None:
    pool = WorkerPool(1, "test")
    begun, go_on = threading.Event(), threading.Event()

    def hold(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)

    class Work:
        def __call__(self, flag: CancelFlag) -> None:
            raise AssertionError("it began")

    held = asyncio.ensure_future(pool.run(hold))
    await in_own_thread(begun.wait, 10.0)
    work = Work()
    gone = weakref.ref(work)
    left = asyncio.ensure_future(pool.run(work))
    await asyncio.sleep(0)
    del work
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(left, 10.0)
    del left
    gc.collect()
    assert gone() is None
    go_on.set()
    await held
    assert await pool.run(lambda flag: "next") == "next"
    await pool.close()


async def test_a_call_that_must_run_does_so_after_it_was_cancelled() -> None:
    pool = WorkerPool(1, "test")
    begun, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def hold(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)

    held = asyncio.ensure_future(pool.run(hold))
    await in_own_thread(begun.wait, 10.0)
    cleaning = asyncio.ensure_future(pool.run(lambda flag: ran.append("cleaned up"), must_run=True))
    await asyncio.sleep(0)
    cleaning.cancel()
    await asyncio.sleep(0)
    cleaning.cancel()
    await asyncio.sleep(0.01)
    assert not cleaning.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await cleaning
    assert ran == ["cleaned up"]
    await held
    await pool.close()


def test_a_call_whose_loop_ended_harms_no_thread() -> None:
    """Its coroutine is thrown away while it waits for a thread, without a cancellation."""
    pool = WorkerPool(1, "test")
    begun, go_on, ran = threading.Event(), threading.Event(), threading.Event()

    def hold(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)

    async def leave() -> None:
        for call in (pool.run(hold), pool.run(lambda flag: ran.set(), must_run=True)):
            waiting.append(call)
            call.send(None)
        await in_own_thread(begun.wait, 10.0)

    waiting: list[Coroutine[object, None, None]] = []
    asyncio.run(leave())
    for call in waiting:
        call.close()
    go_on.set()
    assert asyncio.run(asyncio.wait_for(pool.run(lambda flag: "next"), 10.0)) == "next"
    assert ran.is_set()
    asyncio.run(pool.close())


async def test_closing_waits_for_all_threads_also_if_cancelled() -> None:
    pool = WorkerPool(3, "test-closing")
    go_on = threading.Event()
    calls = [asyncio.ensure_future(pool.run(lambda flag: go_on.wait(10.0))) for _ in range(5)]
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.sleep(0.01)
    assert not closing.done()
    go_on.set()
    assert await asyncio.gather(*calls) == [True] * 5, "a call that was accepted did not finish"
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert _threads("test-closing") == []
    with pytest.raises(Unavailable, match="closed"):
        await pool.run(lambda flag: None)
    await pool.close()


async def test_a_call_that_got_no_thread_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller was told that the store is closed, and it ran with the next call, on memory given back by then."""
    pool = WorkerPool(2, "test")
    ran: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        with pytest.raises(Unavailable, match="no thread") as caught:
            await pool.run(lambda flag: ran.append("refused"))
    assert caught.value.hint
    await pool.run(lambda flag: ran.append("next"))
    await pool.close()
    assert ran == ["next"]


async def test_closing_lets_the_loop_run_and_every_closer_waits() -> None:
    pool = WorkerPool(1, "test-ending")
    begun, go_on = threading.Event(), threading.Event()

    def hold(flag: CancelFlag) -> str:
        begun.set()
        assert go_on.wait(10.0)
        return "held"

    call = asyncio.ensure_future(pool.run(hold))
    await in_own_thread(begun.wait, 10.0)
    ending = [asyncio.ensure_future(pool.close()) for _ in range(2)]
    await asyncio.sleep(0.01)  # the loop runs
    assert not any(one.done() for one in ending)
    go_on.set()
    await asyncio.gather(*ending)
    assert await call == "held"
    assert _threads("test-ending") + _threads("closing") == []


async def test_a_pool_is_ended_also_without_a_thread_to_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the store was closed then: the error was raised half way."""
    pool = WorkerPool(1, "test-ended")
    await pool.run(lambda flag: None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        await pool.close()
    assert _threads("test-ended") == []


async def test_a_pool_that_nobody_refers_to_takes_its_threads_with_it() -> None:
    """After the calls that it accepted, none of which keeps anything alive."""
    pool = WorkerPool(2, "test-forgotten")
    go_on, ran = threading.Event(), threading.Event()
    pool.post(partial(ran.wait, 10.0))
    pool.post(partial(go_on.wait, 10.0))
    pool.post(ran.set)
    threads = _threads("test-forgotten")
    assert len(threads) == 2
    del pool
    go_on.set()
    for thread in threads:
        await in_own_thread(thread.join, 10.0)
        assert not thread.is_alive()
    assert ran.is_set()


async def test_nothing_of_a_call_stays_when_it_has_ended() -> None:
    class Payload:
        """Stands for the bytes of a caller."""

    pool = WorkerPool(1, "test")
    payload = Payload()
    gone = weakref.ref(payload)
    gc.collect()
    gc.disable()  # what is let go is gone at once, or it was held by a cycle
    try:
        await in_thread(pool, id, payload)
        del payload
        assert gone() is None
        posted = Payload()
        gone = weakref.ref(posted)
        pool.post(partial(id, posted))
        del posted
        async with asyncio.timeout(10.0):
            while gone() is not None:  # the thread lets go of it, and waits for the next
                await asyncio.sleep(0.001)
    finally:
        gc.enable()
        await pool.close()


async def test_in_a_child_made_by_fork_calls_are_refused() -> None:
    """They waited for threads that only the parent has. Even if a thread of the parent held the lock at that moment."""
    pool = WorkerPool(1, "test")
    await pool.run(lambda flag: None)
    held, fork_now = threading.Event(), threading.Event()

    def hold() -> None:
        with pool._crew._jobs.lock:
            held.set()
            assert fork_now.wait(10.0)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    pid = os.fork()
    fork_now.set()
    if pid == 0:
        signal.alarm(10)  # ends a child that hangs
        asyncio._set_running_loop(None)
        os._exit(asyncio.run(_in_child(pool)))
    other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert await pool.run(lambda flag: "still here") == "still here"
    await pool.close()


async def _in_child(pool: WorkerPool) -> int:
    """7 if all is as it should be."""
    try:
        await asyncio.wait_for(pool.run(lambda flag: None), 10.0)
    except Unavailable as error:
        await pool.close()
        pool.shutdown()
        return 7 if "before a fork" in str(error) and error.hint else 8
    except BaseException:  # noqa: BLE001 - the child ends here
        return 9
    return 10


def test_a_forgotten_pool_does_not_keep_the_process_nor_fail_a_handler_at_its_exit() -> None:
    """The threads were told to end before the handler ran, which waited for ever."""
    code = """
import atexit, asyncio, threading
def late():
    assert asyncio.run(pool.run(lambda flag: "late")) == "late"
    print("done", flush=True)
atexit.register(late)  # handlers run in the opposite order
from graviton.concurrency.executors import WorkerPool, in_own_thread, in_thread
pool = WorkerPool(2, "test")
asyncio.run(pool.run(lambda flag: None))
begun = threading.Event()
pool.post(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
