"""A limit on bytes per second: a token bucket that holds at most one second's worth.

The bucket begins empty, so the average is kept from the first byte on; what is saved up while nothing flows is at most
one second. A refusal takes nothing, and the time up to it is credited once (the ancestor credits it twice).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from graviton.core.clock import Clock, SystemClock
from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput

__all__ = ["Throttle"]

_MIN_WAIT_SECONDS: Final = 0.001
"""No timer is finer; without it a wait that rounding left too short by a hair would be repeated many times."""

_HAIR: Final = 1e-3
"""Of a byte: what rounding may leave missing after a wait of exactly the time asked for."""


class Throttle:
    """Bytes per second for one or many streams of one event loop, served in the order they came."""

    def __init__(
        self,
        bytes_per_second: int,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Raises InvalidInput unless the rate is 1 to MAX_SIZE."""
        if not 1 <= bytes_per_second <= MAX_SIZE:
            raise InvalidInput(f"a rate is 1 to {MAX_SIZE} bytes per second, not {bytes_per_second}")
        self.rate = bytes_per_second
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._tokens = 0.0
        self._credited_until = self._clock.monotonic()
        self._line = asyncio.Lock()

    @property
    def piece_bytes(self) -> int:
        """Bytes to read at once: an eighth of a second's worth, so that the flow is even, 1 byte to 256 KiB."""
        return max(1, min(256 * 1024, self.rate // 8))

    def try_take(self, count: int) -> float:
        """Take `count` bytes (at most one second's worth) if they are there: 0.0. Else take nothing and say how many
        seconds it will be until they are."""
        if count > self.rate:
            raise InvalidInput(f"{count} bytes never fit a bucket of {self.rate}")
        now = self._clock.monotonic()
        earned = max(0.0, now - self._credited_until) * self.rate
        self._credited_until = now
        self._tokens = min(float(self.rate), self._tokens + earned)
        if self._tokens + _HAIR >= count:
            self._tokens -= count
            return 0.0
        return max(_MIN_WAIT_SECONDS, (count - self._tokens) / self.rate)

    async def take(self, count: int) -> None:
        """Wait in line until `count` bytes, however many, have been let through."""
        async with self._line:
            while count > 0:
                part = min(count, self.rate)
                while (wait := self.try_take(part)) > 0:
                    await self._sleep(wait)
                count -= part
