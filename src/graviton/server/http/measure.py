"""What the server's metrics say about requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from graviton.ports.metrics import MetricKeys, MetricsRegistry
from graviton.server.http.context import Context
from graviton.server.http.edge import Edge, Ended

__all__ = ["counter_of", "show_running"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Others are one: a client may make up as many as it likes, and each would be a series."""


def counter_of(metrics: MetricsRegistry) -> Callable[[Ended], None]:
    """What counts a request that ended."""

    def count(ended: Ended) -> None:
        method = ended.method if ended.method in _METHODS else "OTHER"
        route = ended.route
        metrics.counter(MetricKeys.HTTP_REQUESTS, method=method, route=route, status=str(ended.status))
        metrics.histogram(MetricKeys.HTTP_REQUEST_SECONDS, ended.seconds, method=method, route=route)
        if ended.received:
            metrics.counter(MetricKeys.HTTP_REQUEST_BYTES, ended.received, route=route)
        if ended.sent:
            metrics.counter(MetricKeys.HTTP_RESPONSE_BYTES, ended.sent, route=route)

    return count


def show_running(metrics: MetricsRegistry, edge: Edge, context: Context) -> None:
    """Set what is going on now."""
    kinds = {"upload": context.uploads, "download": context.downloads}
    for kind, slots in kinds.items():
        metrics.gauge(MetricKeys.HTTP_IN_FLIGHT, slots.running, kind=kind)
        metrics.gauge(MetricKeys.HTTP_WAITING, slots.waiting, kind=kind)
    others = edge.in_flight - sum(slots.running for slots in kinds.values())
    metrics.gauge(MetricKeys.HTTP_IN_FLIGHT, others, kind="other")
    budget = context.services.cas.budget
    metrics.gauge(MetricKeys.MEMORY_BUDGET_BYTES, budget.total, kind="total")
    metrics.gauge(MetricKeys.MEMORY_BUDGET_BYTES, budget.used, kind="used")
    metrics.gauge(MetricKeys.HTTP_EVENT_FOLLOWERS, context.followers.running)
