"""What `PrometheusMetrics` promises beyond its port, whose laws are in tests/conformance/test_small_ports.py."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from prometheus_client import REGISTRY

from graviton.backends.prometheus import PrometheusMetrics
from graviton.ports.metrics import MetricKeys, MetricKind
from tests.unit.prometheus.pages import samples, value


def test_page_is_prometheus_text_with_all_kinds() -> None:
    metrics = PrometheusMetrics()
    metrics.counter(MetricKeys.HTTP_REQUESTS, 2, method="GET", route="/api/blobs/{id}", status="200")
    metrics.gauge(MetricKeys.HTTP_IN_FLIGHT, 3, kind="upload")
    metrics.histogram(MetricKeys.HTTP_REQUEST_SECONDS, 0.05, method="GET", route="/api/blobs/{id}")
    content_type, page = metrics.exposition()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    route = {"method": "GET", "route": "/api/blobs/{id}"}
    assert value(page, "graviton_http_requests_total", **route, status="200") == 2
    assert value(page, "graviton_http_in_flight", kind="upload") == 3
    assert value(page, "graviton_http_request_seconds_bucket", **route, le="0.025") == 0
    assert value(page, "graviton_http_request_seconds_bucket", **route, le="0.05") == 1
    assert value(page, "graviton_http_request_seconds_count", **route) == 1
    assert value(page, "graviton_http_request_seconds_sum", **route) == 0.05
    assert b"_created" not in page
    assert f"# HELP graviton_http_requests_total {MetricKeys.HTTP_REQUESTS.spec.help}\n".encode() in page


def test_process_is_shown() -> None:
    page = PrometheusMetrics().exposition()[1]
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "max_fds", "start_time_seconds"):
        found = value(page, f"process_{name}")
        assert found is not None
        assert found > 0


def test_counters_without_labels_are_there_from_the_start() -> None:
    """`increase()` does not see the first failure of a series that begins with 1."""
    metrics = PrometheusMetrics()
    page = metrics.exposition()[1]
    for key in MetricKeys:
        if key.spec.kind is MetricKind.COUNTER and not key.spec.labels:
            assert value(page, key.value) == 0, key
    assert metrics.snapshot().counters == {}


def test_nothing_goes_to_the_registry_of_the_process() -> None:
    metrics = PrometheusMetrics()
    metrics.counter(MetricKeys.BYTES_INGESTED)
    assert not [metric.name for metric in REGISTRY.collect() if metric.name.startswith("graviton")]
    assert value(PrometheusMetrics(), "graviton_bytes_ingested_total") == 0, "two registries share nothing"


def test_odd_values_of_labels_do_not_spoil_the_page() -> None:
    metrics = PrometheusMetrics()
    for text in ("\ud800", 'a"b\\c\nd', "x" * 10_000, "ä", ""):
        metrics.counter(MetricKeys.BLOCKS_INGESTED, status=text)
    page = metrics.exposition()[1]
    assert value(page, "graviton_blocks_ingested_total", status='a"b\\c\nd') == 1
    assert value(page, "graviton_blocks_ingested_total", status="?") == 1
    assert len([name for name, _ in samples(page) if name == "graviton_blocks_ingested_total"]) == 5


def test_page_is_refreshed_before_it_is_shown() -> None:
    metrics = PrometheusMetrics()
    end = metrics.on_snapshot(lambda: metrics.gauge(MetricKeys.UPLOADS_OPEN, 7))
    assert value(metrics, "graviton_uploads_open") == 7
    metrics.gauge(MetricKeys.UPLOADS_OPEN, 1)
    end()
    assert value(metrics, "graviton_uploads_open") == 1


def test_page_may_be_asked_for_while_series_are_made() -> None:
    metrics = PrometheusMetrics()
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            metrics.counter(MetricKeys.BLOCKS_INGESTED, status=str(number % 5_000))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            samples(metrics.exposition()[1])
            metrics.snapshot()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_driver_is_not_imported_before_it_is_used() -> None:
    code = "import sys, graviton, graviton.ports.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False, timeout=60).returncode == 0
