"""`MetricsRegistry`: counters, gauges and histograms, with names from one list.

Laws:
- Names come from `MetricKeys` only, each with the kind and exactly the labels of its `MetricSpec`; values of labels are
  text. A call that is not legal raises InvalidInput and changes nothing.
- `counter` adds (never negative), `gauge` sets, `histogram` observes, in the buckets of its spec (never NaN). Series
  with the same labels in another order are the same.
- The three never block, never raise for a legal call, and may be called from any thread.
- `snapshot` shows every series touched so far; a no-op registry has none. Before it looks it calls what `on_snapshot`
  was given, in which numbers are set that are not worth keeping up to date all the time. What that raises is ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from graviton.errors import InvalidInput
from graviton.ports.metric_keys import MetricKeys, MetricKind, MetricSpec

__all__ = [
    "HistogramValue",
    "MetricKeys",
    "MetricKind",
    "MetricSpec",
    "MetricsRegistry",
    "MetricsSnapshot",
    "NoMetrics",
    "Refreshers",
    "Series",
    "checked_series",
]


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


class Refreshers:
    """What `on_snapshot` was given, for registries that keep something. From any thread."""

    def __init__(self) -> None:
        self._calls: dict[object, Callable[[], None]] = {}

    def add(self, refresh: Callable[[], None]) -> Callable[[], None]:
        """See `MetricsRegistry.on_snapshot`."""
        mine = object()
        self._calls[mine] = refresh

        def end() -> None:
            self._calls.pop(mine, None)

        return end

    def call(self) -> None:
        """Call all of them."""
        for refresh in list(self._calls.values()):
            with suppress(Exception):  # a number that cannot be had must not take all others along
                refresh()


_KEYS = {key.value: key for key in MetricKeys}


def checked_series(name: str, kind: MetricKind, labels: Mapping[str, str]) -> tuple[MetricKeys, Series]:
    """The metric and series of a call, for registries. Raises InvalidInput if the call is not legal."""
    key = _KEYS.get(name)
    if key is None:
        raise InvalidInput(f"{name!r} is not one of MetricKeys", subject=str(name))
    spec = key.spec
    if spec.kind is not kind:
        raise InvalidInput(f"{key.value} is a {spec.kind.value}, not a {kind.value}", subject=key.value)
    if labels.keys() != spec.labels.keys():
        wanted, given = (" and ".join(sorted(one)) or "no labels" for one in (spec.labels, labels))
        raise InvalidInput(f"{key.value} has {wanted}, not {given}", subject=key.value)
    for label, value in labels.items():
        if not isinstance(value, str):
            raise InvalidInput(f"label {label} of {key.value} is text, not {type(value).__name__}", subject=key.value)
    return key, Series(key.value, tuple(sorted(labels.items())))
