"""Metrics as Prometheus reads them, of one process or of several workers; needs the extra `graviton[server]`."""

from __future__ import annotations

from graviton.backends.prometheus.registry import PrometheusMetrics
from graviton.backends.prometheus.workers import WorkerFolder, keep_fresh, worker_metrics

__all__ = ["PrometheusMetrics", "WorkerFolder", "keep_fresh", "worker_metrics"]
