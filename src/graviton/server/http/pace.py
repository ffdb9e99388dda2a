"""How slow a client may be.

Somebody who sends a byte a minute, or takes none, costs a connection, a slot and memory for as long as he likes. Only
time that is spent waiting for the client counts: a store that is slow must not look like a client that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from graviton.core.clock import Clock
from graviton.server.http.errors import TooSlow

__all__ = ["MIN_BYTES_PER_SECOND", "WINDOW_SECONDS", "Pace"]

_T = TypeVar("_T")

MIN_BYTES_PER_SECOND: Final = 1024
"""On average over a window. The slowest modem anybody remembers brought twice as much."""

WINDOW_SECONDS: Final = 30.0
"""Long enough for a train's tunnel, or a phone that changes its cell."""


class Pace:
    """Waits for one client, and gives it up with TooSlow."""

    def __init__(self, clock: Clock, window_seconds: float = WINDOW_SECONDS) -> None:
        self._clock = clock
        self._window = window_seconds
        self._waited = 0.0
        self._moved = 0

    async def wait(self, step: Awaitable[_T], moves: int = 0) -> _T:
        """The result of `step`, which waits for the client: until he has taken `moves` bytes, for four windows at most
        however many they are, or, with 0, until he has sent some, which are told to `moved` then. Raises TooSlow."""
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._window * 4 if moves else self._window):
                result = await step
        except TimeoutError:
            raise _too_slow() from None
        self._waited += self._clock.monotonic() - began
        if moves:
            self.moved(moves)
        return result

    def moved(self, count: int) -> None:
        """Count bytes. Raises TooSlow if a window is over and they are too few."""
        self._moved += count
        if self._waited >= self._window:
            if self._moved < MIN_BYTES_PER_SECOND * self._window:
                raise _too_slow()
            self._waited, self._moved = 0.0, 0


def _too_slow() -> TooSlow:
    return TooSlow(
        f"fewer than {MIN_BYTES_PER_SECOND} bytes per second came through",
        hint="Use a resumable upload, or ranges, on a connection that breaks or is slow.",
    )
