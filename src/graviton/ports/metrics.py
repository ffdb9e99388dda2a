"""`MetricsRegistry`: counters, gauges and histograms, with names from one list.

Laws:
- Names come from `MetricKeys` only; any other raises InvalidInput. Label names are `[a-z_][a-z0-9_]*`.
- `counter` adds (never negative), `gauge` sets, `histogram` observes. A name is used as one kind only. A call that is
  not legal raises InvalidInput and changes nothing; series with the same labels in another order are the same.
- The three never block, never raise for a legal call, and may be called from any thread.
- `snapshot` shows every series touched so far; a no-op registry has none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

__all__ = ["HistogramValue", "MetricKeys", "MetricsRegistry", "MetricsSnapshot", "Series"]


class MetricKeys(StrEnum):
    """Every metric there is. Units are in the name: bytes, seconds, or a plain count (`_total` for counters)."""

    BYTES_INGESTED = "graviton_bytes_ingested_total"
    """Counter: bytes of acknowledged puts."""
    BYTES_READ = "graviton_bytes_read_total"
    """Counter: verified bytes handed out."""
    BLOCKS_INGESTED = "graviton_blocks_ingested_total"
    """Counter, label `status` fresh|duplicate."""
    BLOCKS_DAMAGED = "graviton_blocks_damaged_total"
    """Counter: blocks found missing or wrong by a read."""
    BLOB_OPERATIONS = "graviton_blob_operations_total"
    """Counter, labels `operation`, `outcome` ok or an error code."""
    BLOB_OPERATION_SECONDS = "graviton_blob_operation_seconds"
    """Histogram, label `operation`: wall time; of a get until its first byte."""
    BACKEND_OPERATIONS = "graviton_backend_operations_total"
    """Counter, labels `backend`, `operation`."""
    BACKEND_OPERATION_SECONDS = "graviton_backend_operation_seconds"
    """Histogram, labels `backend`, `operation`."""
    BACKEND_FAILURES = "graviton_backend_failures_total"
    """Counter, labels `backend`, `code`."""
    BACKEND_BYTES = "graviton_backend_bytes_total"
    """Counter, labels `backend`, `operation`: payload bytes of requests that were answered."""
    BACKEND_IN_FLIGHT = "graviton_backend_requests_in_flight"
    """Gauge, label `backend`: requests that are not answered yet."""
    BACKEND_RETRIES = "graviton_backend_retries_total"
    """Counter, labels `backend`, `operation`: tries that failed and were followed by another."""
    BACKEND_CONNECTIONS = "graviton_backend_connections"
    """Gauge, labels `backend`, `state` open|in_use|waiting: connections there are, in use, and requests for one."""
    CACHE_READS = "graviton_cache_reads_total"
    """Counter, label `outcome`: hit (from the cache), miss (fetched below), shared (with a read that was under way)."""
    CACHE_READ_BYTES = "graviton_cache_read_bytes_total"
    """Counter, label `outcome` as above: bytes of the blocks read."""
    CACHE_FILLS = "graviton_cache_fills_total"
    """Counter, label `outcome`: stored; busy (too much waits to be written), failed, large (than the whole cache)."""
    CACHE_EVICTIONS = "graviton_cache_evictions_total"
    """Counter, label `queue` small (never used since it came) or main."""
    CACHE_EVICTED_BYTES = "graviton_cache_evicted_bytes_total"
    """Counter, label `queue` as above."""
    CACHE_DAMAGED = "graviton_cache_damaged_total"
    """Counter: entries whose bytes were wrong, dropped and fetched again."""
    CACHE_FAILURES = "graviton_cache_failures_total"
    """Counter, labels `operation` open|read|write|remove|index, `code`: of the cache's own disk; no reader failed."""
    CACHE_BYTES = "graviton_cache_bytes"
    """Gauge, label `kind` used|limit."""
    CACHE_ENTRIES = "graviton_cache_entries"
    """Gauge: blocks in the cache."""
    CACHE_KEPT = "graviton_cache_kept"
    """Gauge: 1 if this process keeps the cache, 0 if another does and this one only reads from it."""
    MEMORY_BUDGET_BYTES = "graviton_memory_budget_bytes"
    """Gauge, label `kind` total|used."""
    QUEUE_DEPTH = "graviton_queue_depth"
    """Gauge, label `queue`: work accepted and not begun."""


class Series(NamedTuple):
    """One time series: a metric and its sorted labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


class HistogramValue(NamedTuple):
    """What a histogram has seen."""

    observations: int
    sum: float
    buckets: tuple[tuple[float, int], ...]
    """(upper bound, observations at or below it), ascending, the last bound infinite."""


class MetricsSnapshot(NamedTuple):
    """All series at one moment."""

    counters: Mapping[Series, float]
    gauges: Mapping[Series, float]
    histograms: Mapping[Series, HistogramValue]


class MetricsRegistry(ABC):
    """Where components report; see the module docstring for the laws."""

    @abstractmethod
    def counter(self, name: MetricKeys, amount: float = 1.0, **labels: str) -> None:
        """Add `amount` >= 0."""

    @abstractmethod
    def gauge(self, name: MetricKeys, value: float, **labels: str) -> None:
        """Set the current value."""

    @abstractmethod
    def histogram(self, name: MetricKeys, value: float, **labels: str) -> None:
        """Observe one value."""

    @abstractmethod
    def snapshot(self) -> MetricsSnapshot:
        """All series touched so far."""


class NoMetrics(MetricsRegistry):
    """The no-op registry: keeps nothing."""

    def counter(self, name: MetricKeys, amount: float = 1.0, **labels: str) -> None:
        pass

    def gauge(self, name: MetricKeys, value: float, **labels: str) -> None:
        pass

    def histogram(self, name: MetricKeys, value: float, **labels: str) -> None:
        pass

    def snapshot(self) -> MetricsSnapshot:
        return MetricsSnapshot({}, {}, {})
