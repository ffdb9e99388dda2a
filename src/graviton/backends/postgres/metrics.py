"""`PgMetrics`: how long operations on the database take, how they fail, and how its connections are used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from graviton.errors import GravitonError
from graviton.ports.metrics import MetricKeys, MetricsRegistry

__all__ = ["ConnectionUse", "PgMetrics"]

_BACKEND = "postgres"


class PgMetrics:
    """Reports to a registry; every call is cheap and none raises."""

    def __init__(self, registry: MetricsRegistry) -> None:
        self._registry = registry

    def observe(self, operation: str, seconds: float, failure: GravitonError | None) -> None:
        """One operation, with all its tries, has ended."""
        self._registry.counter(MetricKeys.BACKEND_OPERATIONS, backend=_BACKEND, operation=operation)
        self._registry.histogram(MetricKeys.BACKEND_OPERATION_SECONDS, seconds, backend=_BACKEND, operation=operation)
        if failure is not None:
            self._registry.counter(MetricKeys.BACKEND_FAILURES, backend=_BACKEND, code=failure.code)

    def retried(self, operation: str) -> None:
        """A try failed, or its reply was lost, and another one follows or looks what came of it."""
        self._registry.counter(MetricKeys.BACKEND_RETRIES, backend=_BACKEND, operation=operation)

    def show_connections(self, **counts: int) -> None:
        """Connections of this process, by state: see `MetricKeys.BACKEND_CONNECTIONS`."""
        for state, count in counts.items():
            self._registry.gauge(MetricKeys.BACKEND_CONNECTIONS, count, backend=_BACKEND, state=state)


class ConnectionUse:
    """How many connections the pools of a process have, how many are in use, and how many are asked for and not there;
    shown whenever one is asked for, got or given back. What a pool closes because nobody used it for minutes shows
    with the next use. From any thread."""

    def __init__(self, metrics: PgMetrics | None, count_open: Callable[[], int]) -> None:
        self._metrics = metrics
        self._count_open = count_open
        self._lock = threading.Lock()
        self._in_use = self._waiting = 0

    @contextmanager
    def request(self) -> Iterator[Callable[[], None]]:
        """From asking for a connection until it is given back; what it gives is called when the connection is there."""
        if self._metrics is None:
            yield _nothing
            return
        has_got = False

        def got() -> None:
            nonlocal has_got
            has_got = True
            self._move(in_use=1, waiting=-1)

        self._move(waiting=1)
        try:
            yield got
        finally:
            self._move(in_use=-1) if has_got else self._move(waiting=-1)

    def show(self) -> None:
        """Show it now: pools were closed."""
        self._move()

    def _move(self, in_use: int = 0, waiting: int = 0) -> None:
        with self._lock:  # also over showing, lest an older number comes last
            self._in_use += in_use
            self._waiting += waiting
            if self._metrics is not None:
                self._metrics.show_connections(open=self._count_open(), in_use=self._in_use, waiting=self._waiting)


def _nothing() -> None:
    pass
