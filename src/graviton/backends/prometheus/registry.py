"""`PrometheusMetrics`: the metrics of a process, counted by prometheus-client and shown in its text format.

It keeps to a registry of its own, never to the one that prometheus-client has for the whole process. Series are made
when they are first touched; after that a call finds its series in one dictionary, which is most of what it costs
(about 1 us for a counter, docs/operations/metrics.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from math import isnan
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from graviton.errors import InvalidInput
from graviton.ports.metrics import (
    HistogramValue,
    MetricKeys,
    MetricKind,
    MetricsRegistry,
    MetricsSnapshot,
    Refreshers,
    Series,
    checked_series,
)

__all__ = ["PrometheusMetrics"]

_W = TypeVar("_W", bound=MetricWrapperBase)

_CREATED = "_created"
"""End of the names of samples that say since when a series is counted. Nobody reads them in the text format."""


class PrometheusMetrics(MetricsRegistry):
    """See `MetricsRegistry` for the laws. `exposition` is what Prometheus gets.

    `snapshot` shows what this process touched. `exposition` shows more: counters without labels from the start, since
    `increase()` does not see the first failure of a series that begins with 1; memory, processor and files of the
    process; and the other workers, if `shared` gives the metrics of all (see `worker_metrics`).
    """

    def __init__(self, shared: Callable[[], Iterable[Metric]] | None = None) -> None:
        self._shared = shared
        self._lock = threading.Lock()
        self._metrics: dict[MetricKeys, MetricWrapperBase] = {}
        self._counters: dict[tuple[object, ...], Counter] = {}
        self._gauges: dict[tuple[object, ...], Gauge] = {}
        self._histograms: dict[tuple[object, ...], Histogram] = {}
        self._touched: dict[Series, MetricWrapperBase] = {}
        self._refreshers = Refreshers()
        self._process = ProcessCollector(registry=None)
        for key in MetricKeys:
            if key.spec.kind is MetricKind.COUNTER and not key.spec.labels:
                self._metric(key)

    # A call is looked up by its labels in the order in which it gives them; `_found` makes all orders one series.

    def counter(self, name: MetricKeys, amount: float = 1.0, **labels: str) -> None:
        if not amount >= 0:  # also refuses NaN
            raise InvalidInput(f"a counter only grows, not by {amount}", subject=str(name))
        try:
            series = self._counters[name, *labels.items()]
        except (KeyError, TypeError):
            series = self._found(self._counters, Counter, name, MetricKind.COUNTER, labels)
        series.inc(amount)

    def gauge(self, name: MetricKeys, value: float, **labels: str) -> None:
        try:
            series = self._gauges[name, *labels.items()]
        except (KeyError, TypeError):
            series = self._found(self._gauges, Gauge, name, MetricKind.GAUGE, labels)
        series.set(value)

    def histogram(self, name: MetricKeys, value: float, **labels: str) -> None:
        if isnan(value):  # it belongs to no bucket
            raise InvalidInput("a histogram cannot observe NaN", subject=str(name))
        try:
            series = self._histograms[name, *labels.items()]
        except (KeyError, TypeError):
            series = self._found(self._histograms, Histogram, name, MetricKind.HISTOGRAM, labels)
        series.observe(value)

    def snapshot(self) -> MetricsSnapshot:
        """Of this process alone, also where there are other workers."""
        self.refresh()
        with self._lock:
            touched = dict(self._touched)
        counters, gauges, histograms = dict[Series, float](), dict[Series, float](), dict[Series, HistogramValue]()
        for series, one in touched.items():
            if isinstance(one, Histogram):
                histograms[series] = _histogram_value(one)
            else:
                (gauges if isinstance(one, Gauge) else counters)[series] = _value(one)
        return MetricsSnapshot(counters, gauges, histograms)

    def on_snapshot(self, refresh: Callable[[], None]) -> Callable[[], None]:
        return self._refreshers.add(refresh)

    def refresh(self) -> None:
        """Call what `on_snapshot` was given, as each look does. A worker does it now and then without a look, because
        the others show its numbers too (see `keep_fresh`)."""
        self._refreshers.call()

    def exposition(self) -> tuple[str, bytes]:
        """Content type and text for Prometheus. Takes some milliseconds: call it on a thread."""
        self.refresh()
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(_Sorted(self._shown))

    def _shown(self) -> Iterable[Metric]:
        if self._shared is not None:
            yield from self._shared()
            return
        yield from self._process.collect()
        with self._lock:
            metrics = list(self._metrics.values())
        for metric in metrics:
            yield from metric.collect()

    def _found(
        self, known: dict[tuple[object, ...], _W], cls: type[_W], name: str, kind: MetricKind, labels: Mapping[str, str]
    ) -> _W:
        key, series = checked_series(name, kind, labels)
        with self._lock:
            metric = self._metric(key)
            one = metric.labels(**{label: _encodable(value) for label, value in labels.items()}) if labels else metric
            assert isinstance(one, cls)
            self._touched[series] = one
            known[key, *labels.items()] = one
        return one

    def _metric(self, key: MetricKeys) -> MetricWrapperBase:
        found = self._metrics.get(key)
        if found is None:
            found = self._metrics[key] = _made(key)
        return found


def _made(key: MetricKeys) -> MetricWrapperBase:
    name, spec, labels = key.value, key.spec, tuple(key.spec.labels)
    if spec.kind is MetricKind.COUNTER:
        return Counter(name, spec.help, labels, registry=None)
    if spec.kind is MetricKind.GAUGE:
        return Gauge(name, spec.help, labels, registry=None, multiprocess_mode=spec.across.value)
    return Histogram(name, spec.help, labels, registry=None, buckets=spec.buckets)


def _encodable(text: str) -> str:
    """The same text without halves of characters, which UTF-8 does not have: one of them would spoil the whole page."""
    return text.encode("utf-8", "replace").decode()


def _value(one: MetricWrapperBase) -> float:
    (metric,) = one.collect()
    return metric.samples[0].value


def _histogram_value(one: Histogram) -> HistogramValue:
    (metric,) = one.collect()
    samples = {sample.name.removeprefix(metric.name): sample.value for sample in metric.samples}
    buckets = [(float(one.labels["le"]), int(one.value)) for one in metric.samples if "le" in one.labels]
    return HistogramValue(int(samples["_count"]), samples["_sum"], tuple(buckets))


class _Sorted(Collector):
    """Metrics by name, each without samples that nobody reads."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """All metrics, once."""
        for metric in sorted(self._collect(), key=lambda metric: metric.name):
            metric.samples = [one for one in metric.samples if one.name != metric.name + _CREATED]
            yield metric
