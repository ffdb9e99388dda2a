"""Checks that laws share; they need no test framework."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Generic, NamedTuple, TypeVar

from graviton.concurrency.blocking import declare_blocking_thread

__all__ = [
    "Attempt",
    "Caught",
    "cancelled_everywhere",
    "collect",
    "gather",
    "in_place",
    "no_threads_left",
    "pieces_of",
    "raises",
]

_T = TypeVar("_T")
_E = TypeVar("_E", bound=BaseException)

MAX_SUSPENSIONS = 2_000
"""A call that suspends more often than this is taken for one that never ends."""


class Caught(Generic[_E]):
    """What `raises` caught, after its block."""

    error: _E


@contextmanager
def raises(kind: type[_E]) -> Iterator[Caught[_E]]:
    """The block must raise a `kind`; any other error passes through, none is a failure."""
    caught: Caught[_E] = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


async def collect(items: AsyncIterable[_T]) -> list[_T]:
    """All items, in order."""
    return [item async for item in items]


async def pieces_of(pieces: Iterable[_T]) -> AsyncIterator[_T]:
    """The pieces as a slow source gives them: the event loop turns before each."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


async def gather(*calls: Coroutine[Any, Any, _T]) -> list[_T]:
    """Run the calls at the same time; the first failure ends the others and is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


def in_place(make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """The result of a call made on a new thread that may block; it must not suspend once. Raises what the call does."""
    outcome: list[_T | BaseException] = []

    async def call() -> _T:
        work = make()
        try:
            work.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # of the call
        work.close()
        raise AssertionError("the call gave up the event loop of a thread that may block")

    def run() -> None:
        declare_blocking_thread()
        try:
            outcome.append(asyncio.run(call()))
        except BaseException as error:  # noqa: BLE001 - raised below
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


class Attempt(NamedTuple):
    """One call that was cancelled, or the last one, which was not."""

    number: int
    cancelled: bool


async def cancelled_everywhere(
    call: Callable[[], Coroutine[Any, Any, object]], delays: tuple[float, ...] = (0.0, 0.002)
) -> AsyncIterator[Attempt]:
    """Run `call` again and again, each time cancelled at its next await point, until one runs to its end.

    The first attempt is cancelled before it begins. `delays` are seconds between reaching the await point and the
    cancellation: at once, while a thread has hardly begun, and a little later, while it is in the middle.
    """
    numbers = count()
    early = asyncio.ensure_future(call())
    early.cancel()
    await asyncio.wait([early])
    assert early.cancelled(), "a call cancelled before it began must not run"
    yield Attempt(next(numbers), True)
    for delay in delays:
        for suspension in range(1, MAX_SUSPENSIONS):
            driver = _CancelAt(call(), suspension, delay)
            task = asyncio.ensure_future(driver.run())
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()  # an error of the call itself is a failure of the law
                assert not (driver.reached and delay == 0.0), "the cancellation was swallowed"
            yield Attempt(next(numbers), task.cancelled())
            if not driver.reached:
                break
        else:
            raise AssertionError(f"the call suspended {MAX_SUSPENSIONS} times and did not end")


class _CancelAt:
    """Drives a coroutine and cancels the task it runs in when it suspends for the n-th time."""

    def __init__(self, call: Coroutine[Any, Any, object], suspension: int, delay: float) -> None:
        self._call = call
        self._suspension = suspension
        self._delay = delay
        self.reached = False

    async def run(self) -> object:
        return await self

    def __await__(self) -> Generator[Any, Any, object]:
        seen = 0
        timer: asyncio.TimerHandle | None = None
        sent: Any = None
        thrown: BaseException | None = None
        try:
            while True:
                try:
                    waiting_for = self._call.send(sent) if thrown is None else self._call.throw(thrown)
                except StopIteration as end:
                    return end.value
                seen += 1
                if seen == self._suspension:
                    self.reached = True
                    timer = self._cancel()
                try:
                    sent, thrown = (yield waiting_for), None
                except BaseException as error:  # noqa: BLE001 - handed on to the call, which decides
                    sent, thrown = None, error
        finally:
            if timer is not None:
                timer.cancel()

    def _cancel(self) -> asyncio.TimerHandle | None:
        task = asyncio.current_task()
        assert task is not None
        if self._delay:
            return asyncio.get_running_loop().call_later(self._delay, task.cancel)
        task.cancel()
        return None


async def no_threads_left(before: set[threading.Thread]) -> None:
    """Fail if threads begun since `before` go on; those of the event loop's own pool are not ours."""
    left = _our_threads() - before
    for _ in range(200):
        if not left:
            return
        await asyncio.sleep(0.01)
        left = _our_threads() - before
    raise AssertionError(f"threads left behind: {[thread.name for thread in left]}")


def _our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
