"""`S3Metrics`: requests and bytes by operation, how long they take, how many are on their way, how they fail."""

from __future__ import annotations

import threading

from graviton.errors import GravitonError
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics

__all__ = ["S3Metrics"]


class S3Metrics:
    """Reports to a registry; every call is cheap and none raises."""

    def __init__(self, registry: MetricsRegistry | None = None, backend: str = "s3") -> None:
        self._registry = registry or NoMetrics()
        self._backend = backend
        self._lock = threading.Lock()  # requests of several event loops come and go at once
        self._in_flight = 0

    def began(self) -> None:
        """A request is on its way."""
        self._count(1)

    def ended(self, operation: str, seconds: float, failure: GravitonError | None) -> None:
        """It was answered, or failed; each try counts. `failure` has the class it is counted by."""
        self._count(-1)
        backend = self._backend
        self._registry.counter(MetricKeys.BACKEND_OPERATIONS, backend=backend, operation=operation)
        self._registry.histogram(MetricKeys.BACKEND_OPERATION_SECONDS, seconds, backend=backend, operation=operation)
        if failure is not None:
            self._registry.counter(MetricKeys.BACKEND_FAILURES, backend=backend, code=failure.code)

    def _count(self, change: int) -> None:
        with self._lock:
            self._in_flight += change
            self._registry.gauge(MetricKeys.BACKEND_IN_FLIGHT, self._in_flight, backend=self._backend)

    def moved(self, operation: str, size: int) -> None:
        """So many payload bytes went up or came down."""
        self._registry.counter(MetricKeys.BACKEND_BYTES, size, backend=self._backend, operation=operation)

    def retried(self, operation: str) -> None:
        """A try failed, and another one follows."""
        self._registry.counter(MetricKeys.BACKEND_RETRIES, backend=self._backend, operation=operation)
