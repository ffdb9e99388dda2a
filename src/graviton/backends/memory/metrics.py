"""`InMemoryMetrics`: the reference for `MetricsRegistry`, and what tests and `doctor` look at."""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from math import isnan

from graviton.errors import InvalidInput
from graviton.ports.metrics import HistogramValue, MetricKeys, MetricsRegistry, MetricsSnapshot, Series

__all__ = ["BUCKET_BOUNDS", "InMemoryMetrics"]

BUCKET_BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, float("inf"))
"""Upper bounds of the buckets in seconds (all histograms there are measure time): from a lookup in memory, 100 us, over
a fsync, 1 to 10 ms, to a large put; roughly two per power of ten. An observation belongs to the first bucket whose
bound is not below it, and a snapshot counts it in that bucket and all later ones."""

_LABEL = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


class _Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * len(BUCKET_BOUNDS)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(BUCKET_BOUNDS, value)] += 1
        self.sum += value

    def value(self) -> HistogramValue:
        cumulative = tuple(accumulate(self.counts))
        return HistogramValue(cumulative[-1], self.sum, tuple(zip(BUCKET_BOUNDS, cumulative, strict=True)))


class InMemoryMetrics(MetricsRegistry):
    """Numbers of this process. A lock is held for some hundred nanoseconds per call, so none ever blocks for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[MetricKeys, str] = {}
        self._counters: dict[Series, float] = {}
        self._gauges: dict[Series, float] = {}
        self._histograms: dict[Series, _Histogram] = {}
        self._refreshers: dict[object, Callable[[], None]] = {}

    def counter(self, name: MetricKeys, amount: float = 1.0, **labels: str) -> None:
        if not amount >= 0:  # also refuses NaN
            raise InvalidInput(f"a counter only grows, not by {amount}", subject=str(name))
        with self._lock:
            series = self._series(name, "counter", labels)
            self._counters[series] = self._counters.get(series, 0.0) + amount

    def gauge(self, name: MetricKeys, value: float, **labels: str) -> None:
        with self._lock:
            self._gauges[self._series(name, "gauge", labels)] = value

    def histogram(self, name: MetricKeys, value: float, **labels: str) -> None:
        if isnan(value):  # it belongs to no bucket
            raise InvalidInput("a histogram cannot observe NaN", subject=str(name))
        with self._lock:
            self._histograms.setdefault(self._series(name, "histogram", labels), _Histogram()).observe(value)

    def snapshot(self) -> MetricsSnapshot:
        for refresh in list(self._refreshers.values()):
            with suppress(Exception):  # a number that cannot be had must not take all others along
                refresh()
        with self._lock:
            histograms = {series: histogram.value() for series, histogram in self._histograms.items()}
            return MetricsSnapshot(dict(self._counters), dict(self._gauges), histograms)

    def on_snapshot(self, refresh: Callable[[], None]) -> Callable[[], None]:
        mine = object()
        self._refreshers[mine] = refresh

        def end() -> None:
            self._refreshers.pop(mine, None)

        return end

    def _series(self, name: MetricKeys, kind: str, labels: dict[str, str]) -> Series:
        try:
            key = MetricKeys(name)
        except ValueError:
            raise InvalidInput(f"{name!r} is not one of MetricKeys", subject=str(name)) from None
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise InvalidInput(f"a label is [a-z_][a-z0-9_]*, not {label!r}", subject=label)
        if self._kinds.setdefault(key, kind) != kind:
            raise InvalidInput(f"{key.value} is a {self._kinds[key]}, not a {kind}", subject=key.value)
        return Series(key.value, tuple(sorted(labels.items())))
