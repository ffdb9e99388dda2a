"""`RocksMetrics`: latencies with each operation, all else when somebody looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore, RocksMetrics, metrics
from graviton.errors import InvalidInput
from graviton.ports.metrics import MetricKeys, MetricsSnapshot


def _sum(snapshot: MetricsSnapshot, key: MetricKeys, **labels: str) -> float:
    wanted = set(labels.items())
    numbers = {**snapshot.counters, **snapshot.gauges}
    return sum(value for series, value in numbers.items() if series.name == key and wanted <= set(series.labels))


async def test_operations_are_timed_and_rocksdb_is_asked_when_somebody_looks(tmp_path: Path) -> None:
    registry = InMemoryMetrics()
    store = RocksKeyValueStore(RocksConfig(tmp_path / "kv", memtable_bytes=1 << 20), RocksMetrics(registry))
    registry.snapshot()  # before it is open
    for n in range(40):
        value = n.to_bytes(2, "big") * 30_000
        await store.transact(lambda tx, value=value: tx.put_many("a", [(b"%d" % k, value) for k in range(5)]))  # type: ignore[misc]
    assert await store.get("a", b"1") is not None
    with pytest.raises(InvalidInput):
        await store.put("a", b"", b"")
    before = registry.snapshot()
    assert _sum(before, MetricKeys.BACKEND_OPERATIONS, operation="transact") == 41
    assert _sum(before, MetricKeys.BACKEND_OPERATIONS, operation="read") == 1
    assert _sum(before, MetricKeys.BACKEND_FAILURES, code="invalid_input") == 1
    observed = {dict(series.labels)["operation"]: value.observations for series, value in before.histograms.items()}
    assert observed == {"transact": 41, "read": 1}
    await store.aclose()
    written = 40 * 5 * 60_000
    assert _sum(before, MetricKeys.ROCKSDB_LOG_BYTES) >= written
    assert _sum(before, MetricKeys.ROCKSDB_FLUSHED_BYTES) > 0
    assert _sum(before, MetricKeys.ROCKSDB_LEVEL_BYTES) > 0
    assert _sum(before, MetricKeys.ROCKSDB_MEMTABLE_BYTES) > 0
    assert _sum(before, MetricKeys.ROCKSDB_BLOCK_CACHE_BYTES, kind="used") >= 0
    assert _sum(before, MetricKeys.ROCKSDB_WRITE_AMPLIFICATION) > 0.9
    after = registry.snapshot()
    assert after == before, "a closed store is not asked"


async def test_a_snapshot_in_a_child_made_by_fork_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = InMemoryMetrics()
    store = RocksKeyValueStore(RocksConfig(tmp_path / "kv"), RocksMetrics(registry))
    await store.put("a", b"key", b"value")
    monkeypatch.setattr(
        metrics, "_counts", lambda database: os._exit(3)
    )  # it would wait for threads that are not there
    child = os.fork()
    if child == 0:
        try:
            registry.snapshot()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    monkeypatch.undo()
    assert os.waitstatus_to_exitcode(status) == 0
    await store.aclose()
