"""What a cache tells: see the `CACHE_*` of `MetricKeys`."""

from __future__ import annotations

from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics
from graviton.stores.layers.cache.policy import Segment

__all__ = ["CacheMetrics"]


class CacheMetrics:
    """Counts of one cache. Any thread."""

    def __init__(self, registry: MetricsRegistry | None) -> None:
        self._registry = registry or NoMetrics()

    def filled(self, outcome: str) -> None:
        """What became of a block that was fetched."""
        self._registry.counter(MetricKeys.CACHE_FILLS, outcome=outcome)

    def evicted(self, segment: Segment, charge: int) -> None:
        """An entry made room."""
        label = segment.name.lower()
        self._registry.counter(MetricKeys.CACHE_EVICTIONS, segment=label)
        self._registry.counter(MetricKeys.CACHE_EVICTED_BYTES, charge, segment=label)

    def damaged(self) -> None:
        """An entry was wrong."""
        self._registry.counter(MetricKeys.CACHE_DAMAGED)

    def failed(self, operation: str, code: str) -> None:
        """The disk or the index did not do what it should."""
        self._registry.counter(MetricKeys.CACHE_FAILURES, operation=operation, code=code)

    def size(self, used: int, limit: int, entries: int) -> None:
        """How full it is now."""
        self._registry.gauge(MetricKeys.CACHE_BYTES, used, kind="used")
        self._registry.gauge(MetricKeys.CACHE_BYTES, limit, kind="limit")
        self._registry.gauge(MetricKeys.CACHE_ENTRIES, entries)

    def kept(self, is_kept: bool) -> None:
        """Whether this process keeps it."""
        self._registry.gauge(MetricKeys.CACHE_KEPT, float(is_kept))
