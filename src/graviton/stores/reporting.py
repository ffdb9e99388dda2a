"""What is told about puts, by whatever way they came."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.core.clock import Clock
from graviton.ports.blobs import BlobWriteResult
from graviton.ports.events import Event, EventKind, EventSink, NoEvents
from graviton.ports.metrics import MetricKeys, MetricsRegistry

__all__ = ["PutReporter"]


class PutReporter:
    """Counts puts that are durable, and tells of the blobs they made."""

    def __init__(self, metrics: MetricsRegistry, events: EventSink, clock: Clock) -> None:
        self.metrics = metrics
        self._events, self._clock = events, clock

    def report(self, results: Sequence[BlobWriteResult]) -> None:
        """Called once for each put."""
        stats = [result.stats for result in results]
        fresh, blocks = sum(one.fresh_blocks for one in stats), sum(one.blocks for one in stats)
        self.metrics.counter(MetricKeys.BYTES_INGESTED, sum(one.size for one in stats))
        self.metrics.counter(MetricKeys.BLOCKS_INGESTED, fresh, status="fresh")
        self.metrics.counter(MetricKeys.BLOCKS_INGESTED, blocks - fresh, status="duplicate")
        if isinstance(self._events, NoEvents):
            return
        for result in results:
            if result.created:
                facts = {"fresh_bytes": result.stats.fresh_bytes}
                self._events.emit(Event(EventKind.BLOB_COMMITTED, self._clock.now_ns(), result.id, facts))
