"""The thread pool: how calls end."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Coroutine

import pytest

from graviton.backends.filesystem._workers import WorkerPool
from graviton.concurrency.calls import CancelFlag
from graviton.errors import Unavailable


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

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = WorkerPool(2, "test")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(Unavailable, match="thread") as caught:
                await pool.run(lambda flag: None)
            assert caught.value.hint
    begun, go_on = threading.Event(), threading.Event()

    def hold(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)

    held = asyncio.ensure_future(pool.run(hold))
    await asyncio.to_thread(begun.wait, 10.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
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
    await asyncio.to_thread(begun.wait, 10.0)
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
    await asyncio.to_thread(begun.wait, 10.0)
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
        await asyncio.to_thread(begun.wait, 10.0)

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
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("test-closing")]
    with pytest.raises(Unavailable, match="closed"):
        await pool.run(lambda flag: None)
    await pool.close()


async def test_a_call_that_was_accepted_spreads_its_work_also_while_the_pool_closes() -> None:
    """A put that was accepted failed: this store is closed."""
    pool = WorkerPool(3, "test")
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def work(flag: CancelFlag) -> None:
        begun.set()
        assert go_on.wait(10.0)
        pool.spread(done.append, range(20), 3)

    call = asyncio.ensure_future(pool.run(work))
    await asyncio.to_thread(begun.wait, 10.0)
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0.01)
    go_on.set()
    await call
    await closing
    assert done == list(range(20))
