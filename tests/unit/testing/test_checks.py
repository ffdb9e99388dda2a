"""The helpers of the laws see what they claim to see."""

import asyncio
import threading

import pytest

from graviton.testing.conformance.checks import cancelled_everywhere, collect, no_threads_left, pieces_of, raises


def test_raises_wants_the_error_it_names() -> None:
    with raises(LookupError) as caught:
        raise KeyError("inside")
    assert isinstance(caught.error, KeyError)
    with pytest.raises(AssertionError, match="LookupError was not raised"), raises(LookupError):
        pass
    with pytest.raises(ValueError, match="another"), raises(LookupError):
        raise ValueError("another")


async def test_every_await_point_is_cancelled_once_per_delay() -> None:
    reached: list[int] = []

    async def three_steps() -> None:
        for step in range(3):
            await asyncio.sleep(0)
            reached.append(step)

    attempts = await collect(cancelled_everywhere(three_steps, delays=(0.0,)))
    assert [attempt.cancelled for attempt in attempts] == [True, True, True, True, False]
    assert reached == [0, 0, 1, 0, 1, 2]


async def test_cancellation_reaches_what_the_call_waits_for() -> None:
    forever = asyncio.Event()
    cleaned = 0

    async def waits() -> None:
        nonlocal cleaned
        try:
            await asyncio.wait_for(forever.wait(), 30)
        finally:
            cleaned += 1

    seen = 0
    async for attempt in cancelled_everywhere(waits, delays=(0.0, 0.001)):
        seen += 1
        assert attempt.cancelled
        if seen == 2:
            forever.set()
            break
    assert cleaned == 1


async def test_swallowed_cancellation_is_a_failure() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return

    with pytest.raises(AssertionError, match="swallowed"):
        await collect(cancelled_everywhere(stubborn))


async def test_error_of_the_call_itself_comes_out() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await collect(cancelled_everywhere(fails))


async def test_threads_that_go_on_are_named() -> None:
    before = set(threading.enumerate())
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-behind")
    thread.start()
    try:
        with pytest.raises(AssertionError, match="left-behind"):
            await no_threads_left(before)
    finally:
        stop.set()
        thread.join()
    await no_threads_left(before)


async def test_pieces_give_the_loop_a_turn_each() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(count())
    assert await collect(pieces_of([1, 2, 3])) == [1, 2, 3]
    assert turns >= 2
    task.cancel()
