from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.constraints.throttle import Throttle
from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput
from graviton.testing.fake_clock import FakeClock


class Sleeper:
    """Sleeping moves the clock, and is counted."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.naps = 0
        self.slept = 0.0

    async def __call__(self, seconds: float) -> None:
        self.naps += 1
        self.slept += seconds
        self.clock.advance(seconds)


def test_it_begins_empty() -> None:
    throttle = Throttle(1000, FakeClock())
    assert throttle.try_take(1) == pytest.approx(0.001)
    assert throttle.try_take(500) == pytest.approx(0.5)


def test_at_most_one_second_is_saved_up() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, clock)
    clock.advance(3600)
    assert throttle.try_take(1000) == 0.0
    assert throttle.try_take(1) > 0


def test_a_refusal_credits_no_time_twice() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, clock)
    clock.advance(0.25)
    for _ in range(10):
        assert throttle.try_take(500) == pytest.approx(0.25)
    clock.advance(0.25)
    assert throttle.try_take(500) == 0.0
    assert throttle.try_take(500) == pytest.approx(0.5)


def test_a_clock_that_stands_still_or_an_age_that_passes_neither_give_too_much() -> None:
    clock = FakeClock()
    throttle = Throttle(MAX_SIZE, clock)
    assert throttle.try_take(MAX_SIZE) > 0
    clock.advance(10**9)
    assert throttle.try_take(MAX_SIZE) == 0.0
    assert throttle.try_take(MAX_SIZE // 2) > 0


@pytest.mark.parametrize("rate", [0, -1, MAX_SIZE + 1])
def test_a_rate_out_of_bounds_is_refused(rate: int) -> None:
    with pytest.raises(InvalidInput):
        Throttle(rate)


def test_more_than_the_bucket_holds_is_never_there() -> None:
    with pytest.raises(InvalidInput):
        Throttle(10, FakeClock()).try_take(11)


@given(st.integers(1, 10**12), st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_the_average_is_kept_and_no_wait_is_repeated_often(rate: int, parts: list[float]) -> None:
    clock = FakeClock()
    sleeper = Sleeper(clock)
    throttle = Throttle(rate, clock, sleeper)
    counts = [int(part * rate) for part in parts]

    async def take_all() -> None:
        for count in counts:
            await throttle.take(count)

    asyncio.run(take_all())
    assert sleeper.slept >= sum(counts) / rate * (1 - 1e-6) - 0.002
    assert sleeper.slept <= sum(counts) / rate + 0.002 * (sleeper.naps + 1)
    assert sleeper.naps <= 4 * sum(1 + count // rate for count in counts), "it waits, it does not spin"


async def test_takers_are_served_in_line() -> None:
    clock = FakeClock()
    throttle = Throttle(1000, clock, Sleeper(clock))
    order: list[int] = []

    async def take(number: int) -> None:
        await throttle.take(100)
        order.append(number)

    await asyncio.gather(*(take(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert clock.monotonic() == pytest.approx(0.5)


async def test_a_cancelled_taker_leaves_the_line() -> None:
    throttle = Throttle(1)
    waiting = asyncio.ensure_future(throttle.take(1000))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    clock = FakeClock()
    clock.advance(1)
    await asyncio.wait_for(Throttle(10, clock, Sleeper(clock)).take(1), 5)
    assert not throttle._line.locked()


@pytest.mark.parametrize(("rate", "piece"), [(1, 1), (800, 100), (10**9, 256 * 1024)])
def test_pieces_are_an_eighth_of_a_second(rate: int, piece: int) -> None:
    assert Throttle(rate).piece_bytes == piece
