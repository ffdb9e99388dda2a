"""Trying again what may pass, for as long as it comes forward."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from graviton.backends.http.requests import Requests
from graviton.concurrency.retry import RetryPolicy
from graviton.core.clock import Clock
from graviton.errors import GravitonError, Retry, TooManyRequests, Unavailable

__all__ = ["Retrying"]

_T = TypeVar("_T")

_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 5.0
"""Upper bounds of the first wait and of every wait, which are drawn at random."""

_UNKNOWN_SECONDS: Final = 3.0
"""How long a server is tried that has not answered once: most likely the URL is wrong, which should be told soon."""


class Retrying:
    """The tries of one operation. Only a server that is away, or has too much to do, is asked again; a conflict, say,
    is for the caller."""

    def __init__(self, requests: Requests, clock: Clock) -> None:
        self._requests, self._clock = requests, clock
        self._until = 0.0
        self._waits: Iterator[float] | None = None

    def progressed(self) -> None:
        """It came forward since the last failure: the next one has the whole time again."""
        self._waits = None

    async def again(self, error: GravitonError) -> None:
        """Wait for the next try. Raises `error` if there is to be none."""
        if not isinstance(error, (Unavailable, TooManyRequests)) or error.retry is not Retry.TEMPORARY:
            raise error
        if self._waits is None:
            self._begin()
        assert self._waits is not None
        wait = next(self._waits, None)
        asked = error.retry_after_seconds or 0.0
        if wait is None or asked > self._until - self._clock.monotonic():
            error.retry = Retry.EXHAUSTED
            raise error
        await asyncio.sleep(max(wait, asked))

    def _begin(self) -> None:
        seconds = self._requests.config.retry_seconds
        if not self._requests.was_reached:
            seconds = min(seconds, _UNKNOWN_SECONDS)
        began = self._clock.monotonic()
        self._until = began + seconds
        self._waits = RetryPolicy(seconds, _FIRST_SECONDS, _LONGEST_SECONDS).waits(self._clock, began=began)

    async def run(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What `attempt` gives, which is asked until it does, or fails for good."""
        while True:
            try:
                return await attempt()
            except GravitonError as error:
                await self.again(error)
