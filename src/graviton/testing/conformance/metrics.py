"""The laws of `MetricsRegistry`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor  # noqa: TID251 - no event loop is near, and all is waited for
from functools import partial
from typing import Any, ClassVar

from graviton.errors import InvalidInput
from graviton.ports.capabilities import Capabilities
from graviton.ports.metrics import MetricKeys, MetricsRegistry, Series
from graviton.testing.conformance.checks import raises
from graviton.testing.conformance.contract import Contract, needs

__all__ = ["MetricsRegistryContract"]

COUNTER, GAUGE, HISTOGRAM = MetricKeys.BYTES_INGESTED, MetricKeys.QUEUE_DEPTH, MetricKeys.BLOB_OPERATION_SECONDS


class MetricsRegistryContract(Contract[MetricsRegistry]):
    """All laws of `graviton.ports.metrics`."""

    port = MetricsRegistry
    capabilities = Capabilities()

    keeps: ClassVar[bool] = True
    """False for registries that keep nothing."""

    async def test_names_begin_with_graviton(self) -> None:
        for key in MetricKeys:
            assert re.fullmatch(r"graviton_[a-z0-9_]+", key.value)
            assert isinstance(key, str)
            assert all(re.fullmatch(r"[a-z_][a-z0-9_]*", label) for label in key.spec.labels)

    async def test_fresh_registry_has_no_series(self) -> None:
        snapshot = (await self.open()).snapshot()
        assert (dict(snapshot.counters), dict(snapshot.gauges), dict(snapshot.histograms)) == ({}, {}, {})

    async def test_legal_calls_never_raise(self) -> None:
        registry = await self.open()
        registry.counter(COUNTER, 0)
        registry.counter(COUNTER, 2.5)
        for text in ("", "x" * 10_000, 'ä\n"\\', "\ud800"):
            registry.counter(MetricKeys.BLOCKS_INGESTED, status=text)
        for value in (-1.0, 0.0, 1e300, math.inf):
            registry.gauge(GAUGE, value, queue="q")
            registry.histogram(HISTOGRAM, value, operation="put")
        assert isinstance(registry.snapshot().counters, dict)

    async def test_every_series_touched_is_kept_unless_the_registry_keeps_nothing(self) -> None:
        registry = await self.open()
        for _ in range(3):
            registry.counter(COUNTER)
            registry.gauge(GAUGE, 1, queue="q")
            registry.histogram(HISTOGRAM, 1, operation="put")
        snapshot = registry.snapshot()
        assert len(snapshot.counters) == len(snapshot.gauges) == len(snapshot.histograms) == int(self.keeps)

    @needs("keeps")
    async def test_counter_adds(self) -> None:
        registry = await self.open()
        for amount in (1, 2.5, 0):
            registry.counter(COUNTER, amount)
        registry.counter(COUNTER)
        registry.counter(MetricKeys.BYTES_READ, 0)
        counters = registry.snapshot().counters
        assert counters[Series(COUNTER.value)] == 4.5
        assert counters[Series(MetricKeys.BYTES_READ.value)] == 0, "touched, so it is shown"

    @needs("keeps")
    async def test_gauge_sets(self) -> None:
        registry = await self.open()
        for value in (5, -3.5, 7):
            registry.gauge(GAUGE, value, queue="q")
        registry.gauge(GAUGE, 1, queue="r")
        gauges = registry.snapshot().gauges
        assert gauges == {Series(GAUGE.value, (("queue", "q"),)): 7, Series(GAUGE.value, (("queue", "r"),)): 1}

    @needs("keeps")
    async def test_histogram_counts_each_observation_in_every_bucket_at_or_above_it(self) -> None:
        registry = await self.open()
        values = [0.0, 0.00001, 0.001, 0.02, 0.3, 4.0, 50.0, 1e9]
        for value in values:
            registry.histogram(HISTOGRAM, value, operation="put")
        (found,) = registry.snapshot().histograms.values()
        assert found.observations == len(values)
        assert math.isclose(found.sum, sum(values))
        assert [bound for bound, _ in found.buckets] == [*HISTOGRAM.spec.buckets, math.inf]
        for bound, count in found.buckets:
            assert count == len([value for value in values if value <= bound]), bound

    @needs("keeps")
    async def test_observation_on_a_bound_belongs_to_its_bucket(self) -> None:
        registry = await self.open()
        registry.histogram(HISTOGRAM, 1.0, operation="put")
        (found,) = registry.snapshot().histograms.values()
        for bound, _ in found.buckets[:-1]:
            registry.histogram(HISTOGRAM, bound, operation="put")
        (after,) = registry.snapshot().histograms.values()
        for (bound, count), index in zip(after.buckets[:-1], range(1, len(after.buckets)), strict=True):
            assert count == index + (bound >= 1.0), bound

    @needs("keeps")
    async def test_labels_make_series_whatever_their_order(self) -> None:
        registry = await self.open()
        registry.counter(MetricKeys.BACKEND_OPERATIONS, backend="fs", operation="put")
        registry.counter(MetricKeys.BACKEND_OPERATIONS, operation="put", backend="fs")
        registry.counter(MetricKeys.BACKEND_OPERATIONS, backend="fs", operation="get")
        labels = (("backend", "fs"), ("operation", "put"))
        assert registry.snapshot().counters == {
            Series(MetricKeys.BACKEND_OPERATIONS.value, labels): 2,
            Series(MetricKeys.BACKEND_OPERATIONS.value, (("backend", "fs"), ("operation", "get"))): 1,
        }

    @needs("keeps")
    async def test_calls_that_are_not_legal_are_refused_and_change_nothing(self) -> None:
        registry = await self.open()
        registry.counter(COUNTER, 3)
        registry.gauge(GAUGE, 4, queue="q")
        registry.histogram(HISTOGRAM, 5, operation="put")
        before = registry.snapshot()
        unknown: Any = "graviton_made_up_total"
        status = MetricKeys.BLOCKS_INGESTED
        calls: list[Callable[[], None]] = [
            lambda: registry.counter(unknown),
            lambda: registry.gauge(unknown, 1),
            lambda: registry.histogram(unknown, 1),
            lambda: registry.counter(COUNTER, -1),
            lambda: registry.counter(COUNTER, math.nan),
            lambda: registry.histogram(HISTOGRAM, math.nan, operation="put"),
            lambda: registry.gauge(COUNTER, 1),
            lambda: registry.histogram(COUNTER, 1),
            lambda: registry.counter(GAUGE, queue="q"),
            lambda: registry.histogram(GAUGE, 1, queue="q"),
            lambda: registry.counter(HISTOGRAM, operation="put"),
            lambda: registry.gauge(HISTOGRAM, 1, operation="put"),
            lambda: registry.counter(COUNTER, status="fresh"),
            lambda: registry.counter(status),
            lambda: registry.counter(status, stat="fresh"),
            lambda: registry.counter(status, status="fresh", backend="s3"),
        ]
        for value in (1, None, b"fresh", ["fresh"]):
            labels: dict[str, Any] = {"status": value}
            calls.append(partial(registry.counter, status, **labels))
        for number, call in enumerate(calls):
            with raises(InvalidInput):
                call()
            assert registry.snapshot() == before, number

    @needs("keeps")
    async def test_calls_from_many_threads_are_all_counted(self) -> None:
        registry = await self.open()

        def work(number: int) -> None:
            for _ in range(2_000):
                registry.counter(COUNTER)
                registry.histogram(HISTOGRAM, 0.5, operation=str(number % 2))
                registry.gauge(GAUGE, number, queue="q")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        snapshot = registry.snapshot()
        assert snapshot.counters[Series(COUNTER.value)] == 16_000
        assert [found.observations for found in snapshot.histograms.values()] == [8_000, 8_000]
        assert [found.sum for found in snapshot.histograms.values()] == [4_000.0, 4_000.0]

    @needs("keeps")
    async def test_snapshot_does_not_change_afterwards(self) -> None:
        registry = await self.open()
        registry.counter(COUNTER)
        registry.histogram(HISTOGRAM, 1, operation="put")
        before = registry.snapshot()
        registry.counter(COUNTER)
        registry.histogram(HISTOGRAM, 1, operation="put")
        assert before.counters[Series(COUNTER.value)] == 1
        assert [found.observations for found in before.histograms.values()] == [1]

    async def test_what_is_registered_is_called_before_each_snapshot_until_it_is_ended(self) -> None:
        registry = await self.open()
        calls: list[float] = []

        def refresh() -> None:
            calls.append(1)
            registry.gauge(GAUGE, len(calls), queue="q")

        def fail() -> None:
            raise OSError("planned")

        ends = [registry.on_snapshot(fail), registry.on_snapshot(refresh)]
        seen = [sum(registry.snapshot().gauges.values()) for _ in range(2)]
        assert seen == ([1, 2] if self.keeps else [0, 0])
        for end in (*ends, *ends):
            end()
        registry.snapshot()
        assert len(calls) == 2 * int(self.keeps)
