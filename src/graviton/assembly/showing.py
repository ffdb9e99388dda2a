"""What a store tells a metrics registry about itself whenever somebody looks."""

from __future__ import annotations

from collections.abc import Callable

from graviton._version import __version__
from graviton.assembly.settings import Settings
from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import Kernel
from graviton.ports.metrics import MetricKeys, MetricsRegistry

__all__ = ["shown"]


def shown(
    settings: Settings, kernel: Kernel, budget: ByteBudget, metrics: MetricsRegistry | None
) -> Callable[[], None]:
    """Let the registry show what runs and its budget whenever somebody looks; what is returned ends that."""
    if metrics is None:
        return _nothing
    runs = {"kernel": kernel.name, "blob_backend": settings.blob_backend, "metadata": settings.metadata}

    def show() -> None:
        metrics.gauge(MetricKeys.INFO, 1, version=__version__, **runs)
        metrics.gauge(MetricKeys.MEMORY_BUDGET_BYTES, budget.total, kind="total")
        metrics.gauge(MetricKeys.MEMORY_BUDGET_BYTES, budget.used, kind="used")
        metrics.gauge(MetricKeys.QUEUE_DEPTH, budget.waiting, queue="memory")

    return metrics.on_snapshot(show)


def _nothing() -> None:
    pass
