"""`InMemoryMetrics`: the reference for `MetricsRegistry`, and what tests and `doctor` look at."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from math import inf, isnan

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

__all__ = ["InMemoryMetrics"]


class _Histogram:
    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = (*bounds, inf)
        self.counts = [0] * len(self.bounds)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1  # the first bucket whose bound is not below it
        self.sum += value

    def value(self) -> HistogramValue:
        cumulative = tuple(accumulate(self.counts))
        return HistogramValue(cumulative[-1], self.sum, tuple(zip(self.bounds, cumulative, strict=True)))


class InMemoryMetrics(MetricsRegistry):
    """Numbers of this process. A lock is held for some hundred nanoseconds per call, so none ever blocks for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[Series, float] = {}
        self._gauges: dict[Series, float] = {}
        self._histograms: dict[Series, _Histogram] = {}
        self._refreshers = Refreshers()

    def counter(self, name: MetricKeys, amount: float = 1.0, **labels: str) -> None:
        if not amount >= 0:  # also refuses NaN
            raise InvalidInput(f"a counter only grows, not by {amount}", subject=str(name))
        _, series = checked_series(name, MetricKind.COUNTER, labels)
        with self._lock:
            self._counters[series] = self._counters.get(series, 0.0) + amount

    def gauge(self, name: MetricKeys, value: float, **labels: str) -> None:
        _, series = checked_series(name, MetricKind.GAUGE, labels)
        with self._lock:
            self._gauges[series] = value

    def histogram(self, name: MetricKeys, value: float, **labels: str) -> None:
        if isnan(value):  # it belongs to no bucket
            raise InvalidInput("a histogram cannot observe NaN", subject=str(name))
        key, series = checked_series(name, MetricKind.HISTOGRAM, labels)
        with self._lock:
            found = self._histograms.get(series)
            if found is None:
                found = self._histograms[series] = _Histogram(key.spec.buckets)
            found.observe(value)

    def snapshot(self) -> MetricsSnapshot:
        self._refreshers.call()
        with self._lock:
            histograms = {series: histogram.value() for series, histogram in self._histograms.items()}
            return MetricsSnapshot(dict(self._counters), dict(self._gauges), histograms)

    def on_snapshot(self, refresh: Callable[[], None]) -> Callable[[], None]:
        return self._refreshers.add(refresh)
