"""`Requests`: every request of a store goes through here, which bounds them, tries again, counts, and translates.

The drivers' own retries are off, so this is the one place that decides whether something is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from copy import copy
from typing import TypeVar

from graviton.backends.objectstore._driver_answers import cause_of
from graviton.backends.objectstore.errors import translate
from graviton.backends.objectstore.metrics import S3Metrics
from graviton.concurrency.retry import RetryPolicy
from graviton.constraints.budget import ByteBudget
from graviton.core.clock import Clock, SystemClock
from graviton.errors import GravitonError, Retry, Unavailable

__all__ = ["Requests", "Tried"]

_T = TypeVar("_T")


class Tried:
    """What became of the tries of one operation so far."""

    def __init__(self) -> None:
        self.is_open = False
        """A try ended without an answer: it may have had its effect all the same."""
        self.lost = 0
        """How many did."""


class Requests:
    """The requests of one store, on any number of event loops."""

    def __init__(
        self,
        bucket: str,
        *,
        max_requests: int,
        max_bytes: int,
        retry_seconds: float,
        metrics: S3Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`max_bytes` bounds the payload of all requests together; one that is larger goes alone."""
        self._bucket = bucket
        self._count = ByteBudget(max_requests)
        self._bytes = ByteBudget(max_bytes)
        self._policy = RetryPolicy(total_seconds=retry_seconds, first_seconds=0.05, longest_seconds=5.0)
        self._try_seconds: float | None = None
        self._clock = clock or SystemClock()
        self.metrics = metrics or S3Metrics()
        self._closed = False

    def hurried(self, seconds: float) -> Requests:
        """The same requests, with the same bounds, that give up after so many seconds if that is earlier: no new try
        is made then, and none takes longer."""
        made = copy(self)
        made._try_seconds = seconds
        made._policy = self._policy._replace(total_seconds=min(self._policy.total_seconds, seconds))
        return made

    @property
    def max_bytes(self) -> int:
        """The bound of the payload of all requests together."""
        return self._bytes.total

    def once(self) -> Requests:
        """The same requests, each tried once: for what is known to be over, or on its way, when its try ended."""
        made = copy(self)
        made._policy = self._policy._replace(total_seconds=0.0)
        return made

    def for_cleanup(self, seconds: float) -> Requests:
        """As `hurried`, and not refused after `close`: what must not stay on the server is removed all the same."""
        made = self.hurried(seconds)
        made._closed = False
        return made

    @property
    def is_closed(self) -> bool:
        """Whether further operations are refused."""
        return self._closed

    def check_open(self) -> None:
        """Raise Unavailable after `close`."""
        if self._closed:
            raise Unavailable("this store is closed", operation="objectstore", retry=Retry.PERMANENT)

    def close(self) -> None:
        """Refuse further operations."""
        self._closed = True

    async def run(
        self,
        operation: str,
        subject: str,
        attempt: Callable[[], Awaitable[_T]],
        *,
        size: int = 0,
        moved: Callable[[_T], int] | None = None,
        tried: Tried | None = None,
    ) -> _T:
        """What `attempt` gives, tried again while its failure may pass. `size`: bytes of its payload, at most; where
        fewer may be, `moved` counts them in what it gives. `tried` lets `attempt` see whether an earlier try may have
        had its effect. Raises the errors of docs/object-storage.md."""
        self.check_open()
        waits: Iterator[float] | None = None
        tried = tried or Tried()
        held = min(size, self._bytes.total)
        while True:
            await self._count.acquire(1)
            try:
                if held:
                    await self._bytes.acquire(held)
                if waits is None:
                    waits = self._policy.waits(self._clock, began=self._begun())
                try:
                    result = await self._once(operation, subject, attempt)
                    if size:
                        self.metrics.moved(operation, moved(result) if moved else size)
                    return result
                except GravitonError as failure:
                    wait = self._wait_after(failure, operation, waits, tried)
                    if wait is None:
                        raise
                finally:
                    if held:
                        self._bytes.release(held)
            finally:
                self._count.release(1)
            await asyncio.sleep(wait)
            self.check_open()

    def _begun(self) -> float | None:
        """When the clock of an operation began that makes its first try now. For who hurries it is now. Else it begins
        with the first failure: a try that took as long as one may is worth a second, on another connection."""
        return None if self._try_seconds is None else self._clock.monotonic()

    def _wait_after(self, failure: GravitonError, operation: str, waits: Iterator[float], tried: Tried) -> float | None:
        """Seconds until the next try; None if there is none, and `failure` says so."""
        if failure.retry is not Retry.TEMPORARY:
            return None
        tried.is_open = True
        tried.lost += 1
        wait = next(waits, None)
        if wait is None:
            failure.retry = Retry.EXHAUSTED
        else:
            self.metrics.retried(operation)
        return wait

    async def _once(self, operation: str, subject: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        began = self._clock.monotonic()
        failure: GravitonError | None = None
        self.metrics.began()
        try:
            async with asyncio.timeout(self._try_seconds):
                return await attempt()
        except Exception as error:
            failure = translate(error, operation, subject, self._bucket)
            if failure is error:
                raise
            raise failure from cause_of(error)
        finally:
            self.metrics.ended(operation, self._clock.monotonic() - began, failure)
            del failure  # its traceback has this frame, which has the payload: a cycle would keep it
