"""`StoreLimits`: the quota, rates and largest blob of one store, as it asks for them at each step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.quota import Quota
from graviton.constraints.throttle import Throttle
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import GravitonError
from graviton.ports.blobs import BlobReader
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics
from graviton.stores.limits.arrivals import Arrival, GroupArrival
from graviton.stores.limits.paced_reader import PacedReader

__all__ = ["StoreLimits"]


class StoreLimits:
    """What of it is None is not limited. Usable from several event loops."""

    def __init__(
        self,
        *,
        quota: Quota | None = None,
        uploads: Throttle | None = None,
        downloads: Throttle | None = None,
        max_blob_bytes: int | None = None,
        metrics: MetricsRegistry | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`uploads` are bytes per second of all puts together, `downloads` of all gets."""
        self.quota = quota
        self.max_blob_bytes = max_blob_bytes
        self._sleep = sleep
        clock, metrics = clock or SystemClock(), metrics or NoMetrics()
        self._uploads = None if uploads is None else _MeasuredPace(uploads, "upload", metrics, clock)
        self._downloads = None if downloads is None else _MeasuredPace(downloads, "download", metrics, clock)

    def arrival(self, plan: BlobWritePlan) -> Arrival:
        """Of one blob; within `async with`."""
        return Arrival(self.quota, self._uploads, self.max_blob_bytes, plan, self._sleep)

    def group(self, domain: str) -> GroupArrival:
        """Of small blobs that are stored together; within `async with`. They were waited for by `pace`."""
        return GroupArrival(self.quota, self.max_blob_bytes, domain)

    async def room_for(self, blobs: Sequence[tuple[str, int]], domain: str) -> GroupArrival:
        """Of small blobs, given by holder and size, that will be stored together when their turn comes. To be closed by
        the caller. Raises LimitExceeded; StorageFull comes when their keys are known."""
        arrival = self.group(domain)
        try:
            await arrival.reserve(blobs)
        except BaseException:
            await arrival.aclose()
            raise
        return arrival

    async def pace(self, size: int) -> None:
        """Wait until so many bytes of small blobs may come."""
        if self._uploads is not None:
            await self._uploads.take(size)

    def paced(self, reader: BlobReader) -> BlobReader:
        """`reader`, no faster than it may be."""
        return reader if self._downloads is None else PacedReader(reader, self._downloads)

    @asynccontextmanager
    async def changing(
        self, holder: str, key: BlobKey, domain: str, *, comes_back: bool = False
    ) -> AsyncIterator[None]:
        """Around the delete of a blob, or its undelete. Raises StorageFull."""
        if self.quota is None:
            yield
            return
        change = await finish_anyway(self.quota.changing(holder, key, domain, comes_back=comes_back))
        try:
            yield
        finally:
            try:
                await finish_anyway(change.settle())
            except GravitonError:
                pass  # as in arrivals.py: it comes out when its time is past


class _MeasuredPace:
    """A throttle, and how long it was waited for."""

    def __init__(self, throttle: Throttle, direction: str, metrics: MetricsRegistry, clock: Clock) -> None:
        self._throttle, self._direction, self._metrics, self._clock = throttle, direction, metrics, clock
        self.piece = throttle.piece

    async def take(self, count: int) -> None:
        """See `Pace`. In pieces, so that others get their turns in between."""
        began = self._clock.monotonic()
        try:
            for start in range(0, count, self.piece):
                await self._throttle.take(min(self.piece, count - start))
        finally:
            waited = self._clock.monotonic() - began
            self._metrics.counter(MetricKeys.THROTTLED_SECONDS, max(0.0, waited), direction=self._direction)
