"""Blocking calls beside the event loop: none is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from graviton.concurrency.blocking import declare_blocking_thread
from graviton.concurrency.executors import WorkerPool, in_own_thread, in_thread
from graviton.errors import Unavailable


class Held:
    """A call that does not return before it may."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go_on.wait(10.0)
        return "held"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(1, "test")
    yield made
    made.shutdown()


async def test_results_and_errors_come_back(pool: WorkerPool) -> None:
    assert await in_thread(pool, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(pool, divmod, 7, 0)


async def test_stop_iteration_ends_the_call(pool: WorkerPool) -> None:
    """A future takes none: who waited for one waited for ever."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(in_thread(pool, next, iter(())), 10.0)


async def test_a_call_that_has_begun_is_interrupted_and_waited_for(pool: WorkerPool) -> None:
    held = Held()
    interrupted: list[str] = []
    task = asyncio.ensure_future(in_thread(pool, held, interrupt=lambda: interrupted.append("once")))
    await in_own_thread(held.begun.wait, 10.0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.001)
    assert not task.done()
    assert interrupted == ["once"]
    held.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_has_not_begun_is_taken_back(pool: WorkerPool) -> None:
    held = Held()
    first = asyncio.ensure_future(in_thread(pool, held))
    await in_own_thread(held.begun.wait, 10.0)
    ran: list[str] = []
    second = asyncio.ensure_future(in_thread(pool, ran.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(second, 10.0)
    held.go_on.set()
    assert await first == "held"
    assert await in_thread(pool, lambda: "next") == "next"
    assert ran == []


def test_a_thread_that_may_block_calls_at_once() -> None:
    found: list[object] = []

    def work() -> None:
        declare_blocking_thread()
        with WorkerPool(1, "test") as pool:
            found.append(asyncio.run(in_thread(pool, threading.current_thread)))
        found.append(asyncio.run(in_own_thread(threading.current_thread)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [thread, thread]


async def test_the_thread_of_one_call_ends_with_it() -> None:
    before = threading.enumerate()
    thread = await in_own_thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()
    with pytest.raises(ZeroDivisionError):
        await in_own_thread(divmod, 7, 0)
    held = Held()
    interrupted: list[str] = []
    task = asyncio.ensure_future(in_own_thread(held, interrupt=lambda: interrupted.append("once")))
    while not held.begun.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    assert interrupted == ["once"]
    held.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert threading.enumerate() == before


async def test_one_call_that_gets_no_thread_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match="thread") as caught:
            await in_own_thread(ran.append, "refused")
    assert caught.value.hint
    await in_own_thread(ran.append, "next")
    assert ran == ["next"]
