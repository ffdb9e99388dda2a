"""`PgMetrics`: how long operations on the database take, how they fail, and how its connections are used."""

from __future__ import annotations

from collections.abc import Mapping

from graviton.errors import GravitonError
from graviton.ports.metrics import MetricKeys, MetricsRegistry

__all__ = ["PgMetrics"]

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
        """A try failed, and another one follows."""
        self._registry.counter(MetricKeys.BACKEND_RETRIES, backend=_BACKEND, operation=operation)

    def show_pool(self, stats: Mapping[str, int]) -> None:
        """Connections of this process, from the pool's own numbers."""
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        waiting = stats.get("requests_waiting", 0)
        for state, value in (("open", size), ("in_use", size - idle), ("waiting", waiting)):
            self._registry.gauge(MetricKeys.BACKEND_CONNECTIONS, value, backend=_BACKEND, state=state)
