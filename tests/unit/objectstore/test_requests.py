"""`Requests`: how long, how often and how much at once; nothing here sends anything."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Callable
from itertools import pairwise

import pytest

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.objectstore import requests as module
from graviton.backends.objectstore.metrics import S3Metrics
from graviton.backends.objectstore.requests import Requests, Tried
from graviton.errors import GravitonError, NotFound, Retry, Unavailable
from graviton.ports.metrics import MetricKeys, NoMetrics
from graviton.testing.fake_clock import FakeClock

pytestmark = pytest.mark.s3


class Patience:
    """Requests whose waits, and tries of `try_seconds` each, pass on a clock of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, retry_seconds: float = 30.0, try_seconds: float = 0.0) -> None:
        self.clock = FakeClock()
        self.waits: list[float] = []
        self.tries = 0
        self.registry = InMemoryMetrics()
        self.requests = Requests(
            "a-bucket",
            max_requests=4,
            max_bytes=1000,
            retry_seconds=retry_seconds,
            metrics=S3Metrics(self.registry),
            clock=self.clock,
        )
        self._try_seconds = try_seconds
        monkeypatch.setattr(module.asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    async def run(self, outcome: Callable[[int], str], tried: Tried | None = None) -> str:
        """`outcome` gives the answer to the n-th try, or raises."""

        async def attempt() -> str:
            self.tries += 1
            self.clock.advance(self._try_seconds)
            return outcome(self.tries)

        return await self.requests.run("put", "thing", attempt, tried=tried)


def fails(number: int) -> str:
    raise Unavailable(f"try {number}")


def refuses(number: int) -> str:
    raise NotFound("not there")


def fails_before(last: int) -> Callable[[int], str]:
    return lambda number: "answer" if number >= last else fails(number)


async def test_passing_failure_is_tried_again_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(monkeypatch)
    with pytest.raises(Unavailable) as told:
        await patience.run(fails)
    assert told.value.retry is Retry.EXHAUSTED
    assert told.value.message == f"try {patience.tries}", "the last one is told"
    assert sum(patience.waits) == pytest.approx(30.0, abs=1e-6), "the last wait is cut to what is left"
    assert len(patience.waits) == patience.tries - 1
    assert max(patience.waits) <= 5.0
    assert patience.waits[0] <= 0.05


async def test_slow_tries_use_the_budget_up(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(monkeypatch, try_seconds=20.0)
    with pytest.raises(Unavailable):
        await patience.run(fails)
    assert patience.tries <= 3
    assert patience.clock.monotonic() <= 30.0 + 2 * 20.0, (
        "the clock runs from the first failure, one try may be over it"
    )


async def test_slow_try_uses_the_budget_of_who_hurries_up(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(monkeypatch, try_seconds=4.0)
    patience.requests = patience.requests.hurried(3.0)
    with pytest.raises(Unavailable) as told:
        await patience.run(fails)
    assert (patience.tries, told.value.retry) == (1, Retry.EXHAUSTED)


async def test_no_budget_is_one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(monkeypatch, retry_seconds=0)
    with pytest.raises(Unavailable) as told:
        await patience.run(fails)
    assert (patience.tries, told.value.retry) == (1, Retry.EXHAUSTED)


async def test_lasting_failure_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    patience, tried = Patience(monkeypatch), Tried()
    with pytest.raises(NotFound) as told:
        await patience.run(refuses, tried)
    assert (patience.tries, told.value.retry) == (1, Retry.PERMANENT)
    assert not tried.is_open


async def test_later_try_may_succeed_and_knows_of_the_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    patience, tried = Patience(monkeypatch), Tried()
    assert await patience.run(fails_before(3), tried) == "answer"
    assert tried.is_open
    clean = Tried()
    assert await patience.run(lambda number: "answer", clean) == "answer"
    assert not clean.is_open


async def test_what_is_no_error_of_ours_is_translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(number: int) -> str:
        raise ConnectionResetError("reset by peer")

    patience = Patience(monkeypatch)
    with pytest.raises(Unavailable) as told:
        await patience.run(breaks)
    assert told.value.subject == "thing"
    assert isinstance(told.value.__cause__, ConnectionResetError)
    assert patience.tries > 1


async def test_waiting_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's request goes ahead while one waits for its next try."""
    requests = Requests("a-bucket", max_requests=1, max_bytes=10, retry_seconds=30)
    waiting, done = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await done.wait()

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    tries = 0

    async def first() -> str:
        nonlocal tries
        tries += 1
        return fails_before(2)(tries)

    async def second() -> str:
        return "second"

    one = asyncio.ensure_future(requests.run("put", "one", first, size=10))
    await waiting.wait()
    assert await asyncio.wait_for(requests.run("put", "two", second, size=10), 5) == "second"
    done.set()
    assert await one == "answer"


async def test_closing_ends_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(monkeypatch)

    def fails_and_closes(number: int) -> str:
        patience.requests.close()
        return fails(number)

    with pytest.raises(Unavailable, match="closed") as told:
        await patience.run(fails_and_closes)
    assert (patience.tries, told.value.retry) == (1, Retry.PERMANENT)
    with pytest.raises(Unavailable, match="closed"):
        await patience.run(fails)
    assert patience.tries == 1


async def test_requests_and_bytes_at_once_are_bounded() -> None:
    requests = Requests("a-bucket", max_requests=3, max_bytes=100, retry_seconds=0)
    now = most = now_bytes = most_bytes = 0

    async def send(size: int) -> None:
        async def attempt() -> None:
            nonlocal now, most, now_bytes, most_bytes
            now, now_bytes = now + 1, now_bytes + size
            most, most_bytes = max(most, now), max(most_bytes, now_bytes)
            await asyncio.sleep(0.001)
            now, now_bytes = now - 1, now_bytes - size

        await requests.run("put", "thing", attempt, size=size)

    await asyncio.gather(*(send(10) for _ in range(12)))
    assert (most, most_bytes) == (3, 30)
    most = most_bytes = 0
    await asyncio.gather(*(send(60) for _ in range(6)))
    assert (most, most_bytes) == (1, 60)
    await asyncio.gather(send(500), send(500))
    assert most_bytes == 500, "one that is larger than the bound goes alone"


async def test_cancelled_request_gives_its_place_back() -> None:
    requests = Requests("a-bucket", max_requests=1, max_bytes=10, retry_seconds=30)

    async def never() -> None:
        await asyncio.Event().wait()

    async def quick() -> str:
        return "answer"

    running = asyncio.ensure_future(requests.run("put", "thing", never, size=10))
    waiting = asyncio.ensure_future(requests.run("put", "thing", never, size=10))
    await asyncio.sleep(0.01)
    for task in (waiting, running):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.wait_for(requests.run("put", "thing", quick, size=10), 5) == "answer"


def test_several_event_loops_share_the_bounds() -> None:
    requests = Requests("a-bucket", max_requests=2, max_bytes=100, retry_seconds=5)
    lock, now, most, done = threading.Lock(), 0, 0, 0

    async def attempt() -> None:
        nonlocal now, most, done
        with lock:
            now += 1
            most = max(most, now)
        await asyncio.sleep(0.002)
        with lock:
            now -= 1
            done += 1
            if done % 7 == 0:
                raise Unavailable("now and then")

    async def many() -> None:
        await asyncio.gather(*(requests.run("put", "thing", attempt, size=10) for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 2
    assert done >= 40


async def test_metrics_count_every_try(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(monkeypatch)
    await patience.run(fails_before(3))
    told = patience.registry.snapshot()
    assert {series.name: number for series, number in told.counters.items()} == {
        MetricKeys.BACKEND_OPERATIONS: 3,
        MetricKeys.BACKEND_RETRIES: 2,
        MetricKeys.BACKEND_FAILURES: 2,
    }
    assert list(told.gauges.values()) == [0], "nothing is on its way"


class _SlowGauge(NoMetrics):
    """Other threads have time to come between."""

    def __init__(self) -> None:
        self.shown: list[float] = []

    def gauge(self, name: MetricKeys, value: float, **labels: str) -> None:
        time.sleep(0.0002)
        self.shown.append(value)


def test_requests_on_their_way_are_counted_right_by_many_threads() -> None:
    registry = _SlowGauge()
    metrics = S3Metrics(registry)

    def work() -> None:
        for _ in range(25):
            metrics.began()
            metrics.ended("put", 0.0, None)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    steps = [now - before for before, now in pairwise([0.0, *registry.shown])]
    assert len(steps) == 16 * 25 * 2
    assert {abs(step) for step in steps} == {1.0}, "an older number was shown after a newer one"
    assert registry.shown[-1] == 0, "nothing is on its way"
    assert 1 < max(registry.shown) <= 16


async def test_error_shows_no_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor keeps it in memory: the frames of what failed have it."""

    async def attempt() -> None:
        payload = bytearray(b"payload")
        raise OSError(len(payload))

    requests = Requests("a-bucket", max_requests=1, max_bytes=10, retry_seconds=0)
    with pytest.raises(GravitonError) as told:
        await requests.run("put", "thing", attempt)
    assert told.value.__cause__ is not None
    assert told.value.__cause__.__traceback__ is None


async def test_who_hurries_waits_for_no_try_longer_than_that() -> None:
    tries = 0

    async def silent() -> None:
        nonlocal tries
        tries += 1
        await asyncio.Event().wait()

    requests = Requests("a-bucket", max_requests=1, max_bytes=10, retry_seconds=30).hurried(0.1)
    with pytest.raises(Unavailable, match="took too long") as told:
        await asyncio.wait_for(requests.run("get", "thing", silent), 5)
    assert (tries, told.value.retry) == (1, Retry.EXHAUSTED)


async def test_waiting_for_a_place_uses_no_budget_up() -> None:
    clock = FakeClock()
    requests = Requests("a-bucket", max_requests=1, max_bytes=10, retry_seconds=30, clock=clock)
    tries = 0

    async def long() -> None:
        await asyncio.sleep(0)
        clock.advance(100)

    async def second() -> str:
        nonlocal tries
        tries += 1
        return fails_before(2)(tries)

    first = asyncio.ensure_future(requests.run("put", "one", long))
    await asyncio.sleep(0)
    assert await requests.run("put", "two", second) == "answer"
    await first


async def test_cause_that_repeats_a_header_is_not_told() -> None:
    """It has the key."""

    async def malformed() -> None:
        raise ValueError("Invalid header value b'the-session-token\\n'")

    requests = Requests("a-bucket", max_requests=1, max_bytes=10, retry_seconds=0)
    with pytest.raises(GravitonError) as told:
        await requests.run("put", "thing", malformed)
    assert "the-session-token" not in "".join(traceback.format_exception(told.value))
