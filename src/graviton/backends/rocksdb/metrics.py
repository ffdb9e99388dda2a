"""`RocksMetrics`: how long operations take and how they fail; and, when somebody looks, what RocksDB counts itself."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from graviton.backends.rocksdb._database import Database
from graviton.errors import GravitonError
from graviton.ports.metrics import MetricKeys, MetricsRegistry

if TYPE_CHECKING:
    from graviton.backends.rocksdb._shared import Shared

__all__ = ["RocksMetrics"]

_T = TypeVar("_T")

_BACKEND: Final = "rocksdb"
_TICKER: Final = re.compile(r"^(rocksdb\.[a-z.\-]+) .*?COUNT : (\d+)", re.MULTILINE)
"""A line of RocksDB's statistics, of a counter or a histogram: its name, and how much or how often."""


class RocksMetrics:
    """Reports to a registry. Latencies are observed with each operation; all else is asked of RocksDB, which has it in
    memory, when a snapshot of the registry is taken."""

    def __init__(self, registry: MetricsRegistry) -> None:
        self._registry = registry

    async def timed(self, operation: str, work: Awaitable[_T]) -> _T:
        """The outcome of `work`, which is observed."""
        began = time.perf_counter()
        failure: GravitonError | None = None
        try:
            return await work
        except GravitonError as error:
            failure = error
            raise
        finally:
            self._observe(operation, time.perf_counter() - began, failure)

    def _observe(self, operation: str, seconds: float, failure: GravitonError | None) -> None:
        self._registry.counter(MetricKeys.BACKEND_OPERATIONS, backend=_BACKEND, operation=operation)
        self._registry.histogram(MetricKeys.BACKEND_OPERATION_SECONDS, seconds, backend=_BACKEND, operation=operation)
        if failure is not None:
            self._registry.counter(MetricKeys.BACKEND_FAILURES, backend=_BACKEND, code=failure.code)

    def watch(self, shared: Shared) -> Callable[[], None]:
        """From now on ask this store whenever the registry is looked at; what is returned ends that."""
        return self._registry.on_snapshot(_Watch(self._registry, shared).refresh)


class _Watch:
    """The numbers of one store since it was opened, as of the last look."""

    def __init__(self, registry: MetricsRegistry, shared: Shared) -> None:
        self._registry = registry
        self._shared = shared
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._told: dict[tuple[MetricKeys, str], float] = {}

    def refresh(self) -> None:
        if os.getpid() != self._pid:
            return  # made by fork: RocksDB's threads are not here, and the lock may be held for ever
        with self._lock, self._shared.look() as opened:
            if opened is None:
                return
            database, _ = opened
            if database is not self._database:  # opened again: RocksDB counts from zero
                self._database = database
                self._told.clear()
            self._show(database)

    def _show(self, database: Database) -> None:
        counts = _counts(database)
        self._grown(MetricKeys.ROCKSDB_COMPACTIONS, counts.get("rocksdb.compaction.times.micros", 0))
        read, written = counts.get("rocksdb.compact.read.bytes", 0), counts.get("rocksdb.compact.write.bytes", 0)
        flushed, asked = counts.get("rocksdb.flush.write.bytes", 0), counts.get("rocksdb.bytes.written", 0)
        self._grown(MetricKeys.ROCKSDB_COMPACTION_BYTES, read, direction="read")
        self._grown(MetricKeys.ROCKSDB_COMPACTION_BYTES, written, direction="written")
        self._grown(MetricKeys.ROCKSDB_FLUSHED_BYTES, flushed)
        self._grown(MetricKeys.ROCKSDB_LOG_BYTES, counts.get("rocksdb.wal.bytes", 0))
        stalled = counts.get("rocksdb.stall.micros", 0) / 1_000_000 + database.stalled_seconds
        self._grown(MetricKeys.ROCKSDB_STALLED_SECONDS, stalled)
        gauge = self._registry.gauge
        if asked:
            logged = counts.get("rocksdb.wal.bytes", 0)
            gauge(MetricKeys.ROCKSDB_WRITE_AMPLIFICATION, (logged + flushed + written) / asked)
        root, families = database.roots()
        properties = [root.property_int_value, *(family.data.property_int_value for family in families.values())]
        for key, name in (
            (MetricKeys.ROCKSDB_PENDING_COMPACTION_BYTES, "rocksdb.estimate-pending-compaction-bytes"),
            (MetricKeys.ROCKSDB_MEMTABLE_BYTES, "rocksdb.cur-size-all-mem-tables"),
            (MetricKeys.ROCKSDB_RUNNING_COMPACTIONS, "rocksdb.num-running-compactions"),
        ):
            whole = properties[:1] if key is MetricKeys.ROCKSDB_RUNNING_COMPACTIONS else properties
            gauge(key, sum(value(name) or 0 for value in whole))
        cache = database.tuning.cache
        gauge(MetricKeys.ROCKSDB_BLOCK_CACHE_BYTES, cache.get_usage(), kind="used")
        gauge(MetricKeys.ROCKSDB_BLOCK_CACHE_BYTES, cache.get_pinned_usage(), kind="pinned")
        levels: dict[int, int] = {}
        for file in root.live_files():
            levels[file["level"]] = levels.get(file["level"], 0) + file["size"]
        for level in range(_LEVELS):
            gauge(MetricKeys.ROCKSDB_LEVEL_BYTES, levels.get(level, 0), level=str(level))

    def _grown(self, key: MetricKeys, total: float, **labels: str) -> None:
        place = key, "".join(labels.values())
        before = self._told.get(place, 0.0)
        if total > before:
            self._registry.counter(key, total - before, **labels)
            self._told[place] = total


_LEVELS: Final = 7
"""As RocksDB's default."""


def _counts(database: Database) -> Mapping[str, int]:
    text = database.tuning.options.get_statistics() or ""
    return {name: int(count) for name, count in _TICKER.findall(text)}
