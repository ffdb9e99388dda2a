from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.concurrency.executors import in_own_thread
from graviton.constraints.throttle import Throttle, divided
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


async def test_a_cancelled_taker_leaves_the_line_and_takes_nothing() -> None:
    clock = FakeClock()
    never = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await never.wait()

    throttle = Throttle(10, clock, sleep)
    waiting = asyncio.ensure_future(throttle.take(1000))
    await asyncio.sleep(0)
    assert throttle.try_take(1) == pytest.approx(100.1), "behind the one who waits"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert throttle.try_take(1) == pytest.approx(0.1)


async def test_a_timer_that_comes_too_early_is_waited_for_again() -> None:
    clock = FakeClock()
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.advance(seconds / 2)

    await Throttle(1, clock, sleep).take(1)
    assert sum(naps) / 2 == pytest.approx(1, abs=0.002)


async def test_takers_of_several_event_loops_share_one_rate() -> None:
    throttle = Throttle(2000)
    began = time.monotonic()
    await asyncio.gather(*(in_own_thread(lambda: asyncio.run(throttle.take(100))) for _ in range(4)))
    assert time.monotonic() - began >= 0.2 - 0.002


def test_requests_find_a_full_bucket() -> None:
    clock = FakeClock()
    throttle = Throttle(5, clock, burst=2, full=True)
    assert [throttle.try_take(1) for _ in range(2)] == [0.0, 0.0]
    assert throttle.try_take(1) == pytest.approx(0.2)
    clock.advance(100)
    assert [throttle.try_take(1) for _ in range(2)] == [0.0, 0.0]
    assert throttle.try_take(1) == pytest.approx(0.2)


@given(
    st.integers(1, 10**9),
    st.integers(1, 10**9),
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), min_size=1, max_size=60),
)
def test_never_more_than_the_bucket_and_the_rate_and_no_credit_is_lost(
    rate: int, burst: int, full: bool, steps: list[tuple[float, float]]
) -> None:
    """After any steps: what passed is at most the burst and what was earned since; what is refused is no more than
    there is, by a count that knows nothing of buckets."""
    clock = FakeClock()
    throttle = Throttle(rate, clock, burst=burst, full=full)
    passed = 0
    level = float(burst) if full else 0.0
    for seconds, share in steps:
        before = clock.monotonic()
        clock.advance(seconds)
        level = min(burst, level + (clock.monotonic() - before) * rate)
        count = int(share * burst)
        wait = throttle.try_take(count)
        near = 1e-9 * (burst + rate) + 0.01
        if wait == 0.0:
            assert level >= count - near
            passed += count
            level -= count
        else:
            assert level <= count + near, "credit was lost"
            assert wait == pytest.approx((count - level) / rate, abs=0.0011 + near / rate)
        earned = clock.monotonic() * rate
        assert passed <= (burst if full else min(burst, earned)) + earned + near


@given(st.integers(1, 10**6), st.lists(st.tuples(st.floats(0, 2), st.integers(1, 10**6)), min_size=1, max_size=20))
def test_takers_that_are_cancelled_give_nothing_away(rate: int, arrivals: list[tuple[float, int]]) -> None:
    """Every second one is cancelled while it waits: the others keep the rate, and no debt stays behind."""
    clock = FakeClock()

    async def sleep(seconds: float) -> None:
        if cancelling[0]:
            raise asyncio.CancelledError
        clock.advance(seconds)

    cancelling = [False]
    throttle = Throttle(rate, clock, sleep)
    total = 0

    async def alternate() -> None:
        nonlocal total
        for number, (seconds, count) in enumerate(arrivals):
            clock.advance(seconds)
            cancelling[0] = bool(number % 2)
            try:
                await throttle.take(count)
                total += count
            except asyncio.CancelledError:
                assert cancelling[0]
            assert total <= rate * clock.monotonic() * (1 + 1e-9) + 0.01 + rate * 1e-9

    asyncio.run(alternate())
    assert throttle.try_take(1) <= 1 / rate + 0.002, "what was cancelled left no debt"


@pytest.mark.parametrize(("amount", "parts", "share"), [(10, 1, 10), (10, 3, 3), (2, 4, 1), (0, 2, 1), (7, 7, 1)])
def test_a_share_is_never_nothing(amount: int, parts: int, share: int) -> None:
    assert divided(amount, parts) == share


@pytest.mark.parametrize(("rate", "piece"), [(1, 1), (800, 100), (10**9, 256 * 1024)])
def test_pieces_are_an_eighth_of_a_second(rate: int, piece: int) -> None:
    assert Throttle(rate).piece == piece


def test_a_piece_fits_the_bucket() -> None:
    assert Throttle(10**9, burst=7).piece == 7
