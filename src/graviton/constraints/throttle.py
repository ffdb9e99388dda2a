"""A limit on how many units (bytes, requests) may pass per second: a token bucket.

The bucket gains `rate` units per second and holds at most `burst`. It may also be in debt: whoever waits has taken his
units already, and waits until the debt from before him and his own is paid. So those who wait are served in the order
they came, without a lock, in any event loop, and every moment is credited once (the ancestor credits the time up to a
refusal twice).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from graviton.core.clock import Clock, SystemClock
from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput

__all__ = ["Throttle", "divided"]

_MIN_WAIT_SECONDS: Final = 0.001
"""No timer is finer; without it a wait that rounding left too short by a hair would be repeated many times."""

_HAIR: Final = 1e-3
"""Of a unit: what rounding may leave missing after a wait of exactly the time asked for."""


class Throttle:
    """Units per second for one or many streams. Usable from several event loops and threads.

    For bytes the bucket begins empty, so that the average is kept from the first one on; for requests it begins full
    (`full`), so that the first one does not wait.
    """

    def __init__(
        self,
        rate: int,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        burst: int | None = None,
        full: bool = False,
    ) -> None:
        """`rate` in units per second; `burst` is what can be saved up, one second's worth unless it is given. Raises
        InvalidInput unless both are 1 to MAX_SIZE."""
        for what, number in (("a rate", rate), ("a burst", rate if burst is None else burst)):
            if not 1 <= number <= MAX_SIZE:
                raise InvalidInput(f"{what} is 1 to {MAX_SIZE}, not {number}")
        self.rate = rate
        self.burst = rate if burst is None else burst
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = float(self.burst) if full else 0.0
        """Less than 0 while somebody waits."""
        self._credited_until = self._clock.monotonic()

    @property
    def piece(self) -> int:
        """Units to take at once: an eighth of a second's worth, so that the flow is even, 1 to 256 Ki; never more than
        the bucket holds."""
        return max(1, min(256 * 1024, self.rate // 8, self.burst))

    def try_take(self, count: int) -> float:
        """Take `count` units (at most what the bucket holds) if they are there: 0.0. Else take nothing and say how many
        seconds it will be until they are, if nobody else takes any."""
        if count > self.burst:
            raise InvalidInput(f"{count} units never fit a bucket of {self.burst}")
        with self._lock:
            self._credit()
            if self._tokens + _HAIR >= count:
                self._tokens -= count
                return 0.0
            return max(_MIN_WAIT_SECONDS, (count - self._tokens) / self.rate)

    async def take(self, count: int) -> None:
        """Wait in line until `count` units, however many, may pass. Cancelled, none were taken."""
        if count <= 0:
            return
        with self._lock:
            self._credit()
            self._tokens -= count
            missing = -self._tokens
            due = self._credited_until + missing / self.rate
        if missing <= _HAIR:
            return
        try:
            while (left := due - self._clock.monotonic()) > _HAIR / self.rate:
                await self._sleep(max(_MIN_WAIT_SECONDS, left))
        except BaseException:
            with self._lock:
                self._tokens += count  # those behind keep their time; whoever comes next has a shorter way
            raise

    def _credit(self) -> None:
        """What was earned since the last look. The lock is held."""
        now = self._clock.monotonic()
        earned = max(0.0, now - self._credited_until) * self.rate
        self._credited_until = max(self._credited_until, now)
        self._tokens = min(float(self.burst), self._tokens + earned)


def divided(amount: int, parts: int) -> int:
    """The share of a rate or of slots that one of `parts` processes has: rounded down, and never 0."""
    return max(1, amount // parts)
