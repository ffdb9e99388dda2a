"""What is going on in a store: closing it while event loops of other threads use it, and what it reports."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import graviton
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.concurrency.executors import in_own_thread
from graviton.constraints.budget import DEFAULT_BUDGET_BYTES
from graviton.errors import Unavailable
from graviton.ports.metrics import MetricKeys, Series


async def test_closing_ends_operations_of_other_loops(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"the store is there")
        ended: list[str] = []

        async def put_on() -> None:
            number = 0
            while True:
                number += 1
                try:
                    await store.put(b"%d %d" % (threading.get_ident(), number))
                except Unavailable:
                    ended.append("refused")
                    return

        threads = [threading.Thread(target=lambda: asyncio.run(put_on())) for _ in range(2)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(0.1)
        await asyncio.wait_for(store.aclose(), 20)
        for thread in threads:
            await in_own_thread(thread.join, 20)
        assert ended == ["refused"] * 2


async def test_bytes_that_readers_hand_out_are_counted(tmp_path: Path) -> None:
    metrics = InMemoryMetrics()

    def read() -> float:
        return metrics.snapshot().counters.get(Series(MetricKeys.BYTES_READ.value), 0)

    async with graviton.open(tmp_path / "store", metrics=metrics, chunker="small") as store:
        result = await store.put(bytes(200_000))
        assert read() == 0
        async with await store.get(result.key, graviton.Span(10, 70_010)) as reader:
            assert len(await reader.read()) == 70_000
        assert read() == 70_000, "what was asked for, not the blocks that were read for it"
        with (tmp_path / "out").open("wb") as file:
            async with await store.get(result.key) as reader:
                assert await reader.write_to(file.fileno()) == 200_000
        assert read() == 270_000


async def _read(store: graviton.Store, key: graviton.BlobKey) -> int:
    async with await store.get(key) as reader:
        return len(await reader.read())


async def test_what_runs_is_shown(tmp_path: Path) -> None:
    metrics = InMemoryMetrics()
    async with graviton.open(tmp_path, metrics=metrics) as store:
        (labels,) = [dict(one.labels) for one in metrics.snapshot().gauges if one.name == MetricKeys.INFO]
        runs = {"kernel": store.kernel.name, "blob_backend": "fs", "metadata": "sqlite"}
        assert labels == {"version": graviton.__version__, **runs}


async def test_the_byte_budget_is_shown_while_the_store_is_open(tmp_path: Path) -> None:
    metrics = InMemoryMetrics()

    def shown(kind: str) -> float | None:
        return metrics.snapshot().gauges.get(Series(MetricKeys.MEMORY_BUDGET_BYTES.value, (("kind", kind),)))

    async with graviton.open(tmp_path, metrics=metrics) as store:
        result = await store.put(bytes(2_000_000))
        assert (shown("total"), shown("used")) == (DEFAULT_BUDGET_BYTES, 0)
        async with await store.get(result.key) as reader:
            assert await anext(reader)
            assert (shown("used") or 0) > 0
        depth = Series(MetricKeys.QUEUE_DEPTH.value, (("queue", "memory"),))
        assert metrics.snapshot().gauges[depth] == 0
        budget = store._budget
        everything = await budget.lease(budget.total)
        reading = asyncio.ensure_future(_read(store, result.key))
        while not budget.waiting:
            await asyncio.sleep(0.001)
        assert metrics.snapshot().gauges[depth] == 1
        everything.release()
        assert await reading == 2_000_000
        assert metrics.snapshot().gauges[depth] == 0
    before = metrics.snapshot()
    assert metrics.snapshot() == before
