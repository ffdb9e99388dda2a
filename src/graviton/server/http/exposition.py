"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from graviton.ports.metrics import MetricsRegistry, MetricsSnapshot, Series

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def exposition(metrics: MetricsRegistry) -> bytes:
    """All series touched so far."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(metrics.snapshot()))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, snapshot: MetricsSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """The families of the snapshot, each with all its series."""
        families: dict[str, Metric] = {}
        for series, value in self._snapshot.counters.items():
            name = series.name.removesuffix("_total")
            counters = families.setdefault(name, CounterMetricFamily(name, series.name, labels=_names(series)))
            counters.add_sample(series.name, dict(series.labels), value)
        for series, value in self._snapshot.gauges.items():
            gauges = families.setdefault(series.name, GaugeMetricFamily(series.name, series.name))
            gauges.add_sample(series.name, dict(series.labels), value)
        for series, seen in self._snapshot.histograms.items():
            found = families.setdefault(
                series.name, HistogramMetricFamily(series.name, series.name, labels=_names(series))
            )
            assert isinstance(found, HistogramMetricFamily), "a name is of one kind"
            buckets = [("+Inf" if bound == float("inf") else repr(bound), count) for bound, count in seen.buckets]
            found.add_metric([value for _, value in series.labels], buckets, seen.sum)
        yield from families.values()


def _names(series: Series) -> list[str]:
    return [name for name, _ in series.labels]
