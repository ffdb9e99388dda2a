"""A worker process that does what its input says: `count N`, `observe S`, `gauge NAME N`, `page`, `fresh N`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from graviton.backends.prometheus import worker_metrics
from graviton.backends.prometheus.workers import keep_fresh
from graviton.ports.metrics import MetricKeys


def main() -> None:
    metrics = worker_metrics(Path(sys.argv[1]), int(sys.argv[2]))
    answer("ready")
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "count":
            metrics.counter(MetricKeys.BYTES_INGESTED, float(words[0]))
            metrics.counter(MetricKeys.BLOCKS_INGESTED, float(words[0]), status="fresh")
        elif verb == "observe":
            metrics.histogram(MetricKeys.BLOB_OPERATION_SECONDS, float(words[0]), operation="put")
        elif verb == "gauge":
            labels = dict.fromkeys(MetricKeys[words[0]].spec.labels, "x")
            metrics.gauge(MetricKeys[words[0]], float(words[1]), **labels)
        elif verb == "fresh":
            number = float(words[0])
            end = metrics.on_snapshot(lambda number=number: metrics.gauge(MetricKeys.UPLOADS_OPEN, number))  # type: ignore[misc]
            asyncio.run(once(keep_fresh(metrics, 0.001)))
            end()
        elif verb == "page":
            answer(metrics.exposition()[1].hex())
            continue
        answer("done")


async def once(endless: object) -> None:
    assert asyncio.iscoroutine(endless)
    task = asyncio.ensure_future(endless)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])


def answer(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a pipe to the test


if __name__ == "__main__":
    main()
