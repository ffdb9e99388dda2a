"""Reading Prometheus' text format, by prometheus-client's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from graviton.backends.prometheus import PrometheusMetrics


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page by name and labels; each comes once."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(page.decode()):
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found, key
            found[key] = one.value
    return found


def value(metrics: PrometheusMetrics | bytes, name: str, **labels: str) -> float | None:
    """One sample; None if it is not there."""
    page = metrics if isinstance(metrics, bytes) else metrics.exposition()[1]
    return samples(page).get((name, frozenset(labels.items())))
