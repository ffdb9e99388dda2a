"""`MetricsRegistry`: counters, gauges and histograms, with names from one list.

Laws:
- Names come from `MetricKeys` only; any other raises InvalidInput. Label names are `[a-z_][a-z0-9_]*`.
- `counter` adds (never negative), `gauge` sets, `histogram` observes. A name is used as one kind only. A call that is
  not legal raises InvalidInput and changes nothing; series with the same labels in another order are the same.
- The three never block, never raise for a legal call, and may be called from any thread.
- `snapshot` shows every series touched so far; a no-op registry has none. Before it looks it calls what `on_snapshot`
  was given, in which numbers are set that are not worth keeping up to date all the time. What that raises is ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
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
    """Counter, label `outcome`: stored; busy (too much waits to be written, or the disk hangs), failed, large (than the
    whole cache, or than what may wait)."""
    CACHE_EVICTIONS = "graviton_cache_evictions_total"
    """Counter, label `segment` window (read less often than what it would have replaced), probation, protected."""
    CACHE_EVICTED_BYTES = "graviton_cache_evicted_bytes_total"
    """Counter, label `segment` as above."""
    CACHE_DAMAGED = "graviton_cache_damaged_total"
    """Counter: entries whose bytes were wrong, dropped and fetched again."""
    CACHE_FAILURES = "graviton_cache_failures_total"
    """Counter, labels `operation` open|read|write|remove|index, `code` of the error, or timeout: of the cache's own
    disk; no reader failed."""
    CACHE_BYTES = "graviton_cache_bytes"
    """Gauge, label `kind` used|limit."""
    CACHE_ENTRIES = "graviton_cache_entries"
    """Gauge: blocks in the cache."""
    CACHE_KEPT = "graviton_cache_kept"
    """Gauge: 1 if this process keeps the cache, 0 if another does and this one only reads from it."""
    HTTP_REQUESTS = "graviton_http_requests_total"
    """Counter, labels `method`, `route`, `status` of the answer, 0 if none was sent: requests that ended."""
    HTTP_REQUEST_SECONDS = "graviton_http_request_seconds"
    """Histogram, labels `method`, `route`: from the head of a request to the last byte of its answer."""
    HTTP_REQUEST_BYTES = "graviton_http_request_bytes_total"
    """Counter, label `route`: bytes of bodies that came."""
    HTTP_RESPONSE_BYTES = "graviton_http_response_bytes_total"
    """Counter, label `route`: bytes of bodies that were sent."""
    HTTP_IN_FLIGHT = "graviton_http_in_flight"
    """Gauge, label `kind` upload|download|other: requests that run now."""
    HTTP_WAITING = "graviton_http_waiting"
    """Gauge, label `kind` upload|download: requests that wait for a slot."""
    HTTP_EVENT_FOLLOWERS = "graviton_http_event_followers"
    """Gauge: clients that follow the events."""
    MEMORY_BUDGET_BYTES = "graviton_memory_budget_bytes"
    """Gauge, label `kind` total|used."""
    QUEUE_DEPTH = "graviton_queue_depth"
    """Gauge, label `queue`: work accepted and not begun."""
    ROCKSDB_COMPACTIONS = "graviton_rocksdb_compactions_total"
    """Counter: compactions that have ended."""
    ROCKSDB_COMPACTION_BYTES = "graviton_rocksdb_compaction_bytes_total"
    """Counter, label `direction` read|written: bytes of files that compactions read and wrote."""
    ROCKSDB_FLUSHED_BYTES = "graviton_rocksdb_flushed_bytes_total"
    """Counter: bytes of memtables written out as files."""
    ROCKSDB_LOG_BYTES = "graviton_rocksdb_log_bytes_total"
    """Counter: bytes written to write-ahead logs."""
    ROCKSDB_STALLED_SECONDS = "graviton_rocksdb_stalled_seconds_total"
    """Counter: time that writes waited because compaction was behind."""
    ROCKSDB_RUNNING_COMPACTIONS = "graviton_rocksdb_running_compactions"
    """Gauge."""
    ROCKSDB_PENDING_COMPACTION_BYTES = "graviton_rocksdb_pending_compaction_bytes"
    """Gauge: bytes that compaction has to rewrite, as RocksDB estimates it."""
    ROCKSDB_LEVEL_BYTES = "graviton_rocksdb_level_bytes"
    """Gauge, label `level`: bytes of files there."""
    ROCKSDB_MEMTABLE_BYTES = "graviton_rocksdb_memtable_bytes"
    """Gauge: memory of all memtables, those included that are being written out or that a read keeps."""
    ROCKSDB_BLOCK_CACHE_BYTES = "graviton_rocksdb_block_cache_bytes"
    """Gauge, label `kind` used|pinned."""
    ROCKSDB_WRITE_AMPLIFICATION = "graviton_rocksdb_write_amplification"
    """Gauge: bytes written to logs and files for each byte of changes, since the store was opened."""


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

    @abstractmethod
    def on_snapshot(self, refresh: Callable[[], None]) -> Callable[[], None]:
        """Call `refresh` before each look from now on, on the thread that looks; it uses this registry, and takes no
        longer than a look may. What is returned ends that, and may be called again."""


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

    def on_snapshot(self, refresh: Callable[[], None]) -> Callable[[], None]:
        return _nothing


def _nothing() -> None:
    pass
