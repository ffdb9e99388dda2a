"""Blocking calls beside the event loop: none is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from graviton.concurrency.blocking import declare_blocking_thread
from graviton.concurrency.executors import OwnThread, end_pool, in_thread
from graviton.errors import Unavailable

MAKERS: dict[str, Callable[[], Executor]] = {
    "own thread": lambda: OwnThread("test-own"),
    "pool": lambda: ThreadPoolExecutor(1, "test-pool"),
}


class Held:
    """A call that does not return before it may."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go_on.wait(10.0)
        return "held"


@pytest.fixture(params=MAKERS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = MAKERS[request.param]()
    yield made
    made.shutdown()


async def test_results_and_errors_come_back(executor: Executor) -> None:
    assert await in_thread(executor, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(executor, divmod, 7, 0)


async def test_stop_iteration_ends_the_call(executor: Executor) -> None:
    """A future takes none: who waited for one waited for ever."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(in_thread(executor, next, iter(())), 10.0)


async def test_a_call_that_has_begun_is_interrupted_and_waited_for(executor: Executor) -> None:
    held = Held()
    interrupted: list[str] = []
    task = asyncio.ensure_future(in_thread(executor, held, interrupt=lambda: interrupted.append("once")))
    await asyncio.to_thread(held.begun.wait, 10.0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.001)
    assert not task.done()
    assert interrupted == ["once"]
    held.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_has_not_begun_is_taken_back(executor: Executor) -> None:
    held = Held()
    first = asyncio.ensure_future(in_thread(executor, held))
    await asyncio.to_thread(held.begun.wait, 10.0)
    ran: list[str] = []
    second = asyncio.ensure_future(in_thread(executor, ran.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(second, 10.0)
    held.go_on.set()
    assert await first == "held"
    assert await in_thread(executor, lambda: "next") == "next"
    assert ran == []


def test_a_thread_that_may_block_calls_at_once() -> None:
    found: list[object] = []

    def work() -> None:
        declare_blocking_thread()
        with ThreadPoolExecutor(1) as pool:
            found.append(asyncio.run(in_thread(pool, threading.current_thread)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [thread]


async def test_ending_a_pool_lets_calls_finish_and_the_loop_run() -> None:
    pool = ThreadPoolExecutor(1, "test-ending")
    held = Held()
    call = asyncio.ensure_future(in_thread(pool, held))
    await asyncio.to_thread(held.begun.wait, 10.0)
    ending = asyncio.ensure_future(end_pool(pool))
    await asyncio.sleep(0.01)  # the loop runs
    assert not ending.done()
    held.go_on.set()
    await ending
    assert await call == "held"
    with pytest.raises(Unavailable, match="closed"):
        await in_thread(pool, len, "")
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("test-ending_0", "graviton-closing")]


async def test_a_pool_is_ended_also_without_a_thread_to_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the store was closed then: the error was raised half way."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = ThreadPoolExecutor(1, "test-ended")
    await in_thread(pool, len, "")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        await end_pool(pool)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "test-ended_0"]


async def test_a_thread_of_its_own_ends_when_nobody_refers_to_it() -> None:
    own = OwnThread("test-forgotten")
    await in_thread(own, len, "")
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "test-forgotten")
    del own
    await asyncio.to_thread(thread.join, 10.0)
    assert not thread.is_alive()


async def test_a_thread_that_cannot_begin_is_no_closed_store_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store was said to be closed, every later call waited for ever, and giving the source back failed."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    own = OwnThread("test-refused")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match="no thread") as caught:
            await in_thread(own, len, "")
        assert caught.value.hint
    try:
        assert await asyncio.wait_for(in_thread(own, len, "four"), 10.0) == 4
    finally:
        own.shutdown()
