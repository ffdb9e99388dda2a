"""Where does the time of a put of 4 KiB go, alone and in `put_many`?

`python -m benchmarks.profile_small [--count 4000]`: microseconds per blob, stage by stage. The clocks cost some
microseconds per call, so the shares are what to look at.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from benchmarks.__main__ import WORK
from benchmarks.harness.probes import probe
from benchmarks.harness.report import terminal_table
from benchmarks.harness.section import Section, Table
from benchmarks.harness.space import Space
from benchmarks.harness.stages import Stages
from benchmarks.small_blobs.worker import blobs


async def single(stages: Stages, root: Path, count: int) -> Table:
    """One put after the other."""
    import graviton

    async with graviton.open(root) as store:
        for blob in blobs(0, 64):
            await store.put(blob)
        data = blobs(64, count)
        stages.take()
        begin, cpu = time.perf_counter(), time.process_time()
        for blob in data:
            await store.put(blob)
        return stages.table("put", time.perf_counter() - begin, time.process_time() - cpu, count, "us")


async def many(stages: Stages, root: Path, count: int) -> Table:
    """All of them with `put_many`."""
    import graviton

    async with graviton.open(root) as store:
        async for _ in store.put_many(blobs(0, 64)):
            pass
        data = blobs(64, count)
        stages.take()
        begin, cpu = time.perf_counter(), time.process_time()
        async for _ in store.put_many(data):
            pass
        return stages.table("put_many", time.perf_counter() - begin, time.process_time() - cpu, count, "us")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4000, help="single puts; put_many gets four times as many")
    options = parser.parse_args()
    stages = Stages()
    probe(stages)
    with Space(WORK) as space:
        tables = []
        for work, count in ((single, options.count), (many, 4 * options.count)):
            space.settle()
            tables.append(asyncio.run(work(stages, space.fresh("profile") / "store", count)))
    print(terminal_table(Section("profile", "profile", tables=tables)))


if __name__ == "__main__":
    main()
