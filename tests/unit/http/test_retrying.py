"""How long what may pass is tried again."""

from __future__ import annotations

import asyncio

import pytest

from graviton.backends.http import HttpConfig
from graviton.backends.http.requests import Requests
from graviton.backends.http.retrying import Retrying
from graviton.errors import Conflict, GravitonError, Retry, TooManyRequests, Unavailable


class Clock:
    """Moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds + 0.001

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return clock


def retrying(clock: Clock, seconds: float, was_reached: bool = True) -> Retrying:
    requests = Requests(HttpConfig("http://host", retry_seconds=seconds))
    requests.was_reached = was_reached
    return Retrying(requests, clock)


async def until_it_ends(tries: Retrying) -> tuple[int, GravitonError]:
    error = Unavailable("planned")
    count = 0
    try:
        while True:
            await tries.again(error)
            count += 1
    except Unavailable as raised:
        return count, raised


@pytest.mark.parametrize(
    ("seconds", "reached", "expected"), [(30.0, True, 30.0), (30.0, False, 3.0), (1.0, False, 1.0)]
)
async def test_tries_end_with_their_time(clock: Clock, seconds: float, reached: bool, expected: float) -> None:
    count, error = await until_it_ends(retrying(clock, seconds, reached))
    assert expected * 0.9 <= clock.now <= expected * 1.1
    assert count >= 3
    assert error.retry is Retry.EXHAUSTED


async def test_no_time_is_no_second_try(clock: Clock) -> None:
    assert (await until_it_ends(retrying(clock, 0.0)))[0] == 0
    assert clock.now == 0


async def test_who_comes_forward_has_the_whole_time_again(clock: Clock) -> None:
    tries = retrying(clock, 10.0)
    for _ in range(50):
        await tries.again(Unavailable("planned"))
        tries.progressed()
        clock.now += 5
    await until_it_ends(tries)
    assert clock.now >= 250


async def test_only_what_may_pass_is_tried_again(clock: Clock) -> None:
    tries = retrying(clock, 10.0)
    for error in (Conflict("planned"), Unavailable("planned", retry=Retry.PERMANENT)):
        with pytest.raises(type(error)):
            await tries.again(error)
    assert clock.now == 0
    await tries.again(TooManyRequests("planned"))


async def test_server_says_how_long_to_wait(clock: Clock) -> None:
    tries = retrying(clock, 10.0)
    error = TooManyRequests("planned")
    error.__dict__["retry_after_seconds"] = 4.0
    await tries.again(error)
    assert 4.0 <= clock.now <= 4.5
    await tries.again(error)
    with pytest.raises(TooManyRequests):
        await tries.again(error)  # for 12 seconds nobody waits
    assert clock.now <= 9.5
