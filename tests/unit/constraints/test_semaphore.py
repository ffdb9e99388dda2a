from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graviton.constraints.semaphore import SemaphoreLimit
from graviton.errors import InvalidInput, TooManyRequests


class Timers:
    """A `call_later` whose time the test lets come."""

    def __init__(self) -> None:
        self.pending: list[Timers.One] = []

    class One:
        def __init__(self, owner: Timers, call: Callable[[], object]) -> None:
            self.owner, self.call = owner, call

        def cancel(self) -> None:
            if self in self.owner.pending:
                self.owner.pending.remove(self)

    def __call__(self, seconds: float, call: Callable[[], object]) -> Timers.One:
        assert seconds == WAIT
        one = Timers.One(self, call)
        self.pending.append(one)
        return one

    def expire_first(self) -> None:
        self.pending.pop(0).call()


WAIT = 10.0


def limit(slots: int = 1, room: int = 2) -> tuple[SemaphoreLimit, Timers]:
    timers = Timers()
    return SemaphoreLimit(slots, room, WAIT, name="uploads", call_later=timers), timers


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    made, timers = limit(slots=2, room=5)
    order: list[int] = []

    async def use(number: int) -> None:
        async with made:
            order.append(number)
            assert made.in_use <= 2
            await turns()

    await asyncio.gather(*(use(number) for number in range(7)))
    assert order == list(range(7))
    assert (made.in_use, made.waiting, timers.pending) == (0, 0, [])


async def test_a_full_waiting_room_refuses_at_once() -> None:
    made, _ = limit(room=2)
    await made.acquire()
    waiting = [asyncio.ensure_future(made.acquire()) for _ in range(2)]
    await turns()
    assert (made.in_use, made.waiting) == (1, 2)
    with pytest.raises(TooManyRequests, match="1 slots for uploads are in use, and 2 wait") as refused:
        await made.acquire()
    assert refused.value.retry_after_seconds == WAIT
    assert (made.in_use, made.waiting) == (1, 2)
    for task in waiting:
        made.release()
        await task
    made.release()
    assert made.in_use == 0


async def test_without_a_waiting_room_nobody_waits() -> None:
    made = SemaphoreLimit(1, 0, 0)
    async with made:
        with pytest.raises(TooManyRequests) as refused:
            await made.acquire()
    assert refused.value.retry_after_seconds == 1.0
    async with made:
        pass


async def test_who_has_waited_too_long_is_turned_away_and_the_next_one_is_not() -> None:
    made, timers = limit(room=2)
    await made.acquire()
    first, second = (asyncio.ensure_future(made.acquire()) for _ in range(2))
    await turns()
    timers.expire_first()
    with pytest.raises(TooManyRequests, match="within 10 s"):
        await first
    assert made.waiting == 1
    made.release()
    await second
    assert (made.in_use, made.waiting, timers.pending) == (1, 0, [])


async def test_a_slot_that_comes_at_the_last_moment_is_kept() -> None:
    made, timers = limit()
    await made.acquire()
    waiting = asyncio.ensure_future(made.acquire())
    await turns()
    made.release()
    timers.expire_first()  # it was granted a moment ago, and has not run yet
    await waiting
    assert made.in_use == 1


@pytest.mark.parametrize("granted_first", [True, False])
async def test_whoever_is_cancelled_leaves_the_line(granted_first: bool) -> None:
    made, timers = limit()
    await made.acquire()
    first, second = (asyncio.ensure_future(made.acquire()) for _ in range(2))
    await turns()
    if granted_first:
        made.release()
        first.cancel()
    else:
        first.cancel()
        made.release()  # before the cancelled one has run
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (made.in_use, made.waiting, timers.pending) == (1, 0, [])
    made.release()
    assert made.in_use == 0


async def test_cancelled_and_turned_away_in_one_moment() -> None:
    made, timers = limit()
    await made.acquire()
    waiting = asyncio.ensure_future(made.acquire())
    await turns()
    timers.expire_first()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    made.release()
    assert (made.in_use, made.waiting) == (0, 0)


async def test_an_error_inside_gives_the_slot_back() -> None:
    made, _ = limit()
    with pytest.raises(ZeroDivisionError):
        async with made:
            raise ZeroDivisionError
    assert made.in_use == 0


@pytest.mark.parametrize(("slots", "room", "seconds"), [(0, 1, 1), (1, -1, 1), (1, 1, -1), (1, 1, float("nan"))])
def test_numbers_that_cannot_be_are_refused(slots: int, room: int, seconds: float) -> None:
    with pytest.raises(InvalidInput):
        SemaphoreLimit(slots, room, seconds)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(0, 3), st.lists(st.sampled_from("acwxt"), max_size=40))
def test_counts_are_right_after_any_steps(slots: int, room: int, steps: list[str]) -> None:
    """Arrive, cancel a waiting one, finish one, cancel one that has a slot, let the longest wait end; in any order."""

    async def run() -> None:
        made, timers = limit(slots, room)
        tasks: list[asyncio.Task[None]] = []
        finish: dict[asyncio.Task[None], asyncio.Event] = {}

        async def use(event: asyncio.Event) -> None:
            async with made:
                await event.wait()

        for step in steps:
            live = [task for task in tasks if not task.done()]
            if step == "a":
                event = asyncio.Event()
                tasks.append(task := asyncio.ensure_future(use(event)))
                finish[task] = event
            elif step == "t" and timers.pending:
                timers.expire_first()
            elif live and step == "c":
                live[-1].cancel()
            elif live and step == "w":
                finish[live[0]].set()
            elif live and step == "x":
                live[0].cancel()
            if step in "at":
                await turns()
            assert made.in_use <= slots
            assert made.waiting <= room
        for event in finish.values():
            event.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in results} <= {type(None), TooManyRequests, asyncio.CancelledError}
        assert (made.in_use, made.waiting, timers.pending) == (0, 0, [])

    asyncio.run(run())
