"""Objects in PostgreSQL, in and out; benchmarks/postgres_objects compares sizes of parts and ways in."""

from __future__ import annotations

import os
import time

from benchmarks.harness.figures import Verdict
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.objects import PgMutableObjectStore
from graviton.core.locators import Locator

__all__ = ["measure_objects"]

_PLACE = Locator("pg", "default", "large")


async def measure_objects(database: PgDatabase, mebibytes: int, rounds: int) -> list[Verdict]:
    """MB/s of a new object and of reading it. One round more comes first: it makes the files of the log."""
    store = PgMutableObjectStore(database)
    content = os.urandom(mebibytes << 20)
    into: list[float] = []
    out: list[float] = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        await store.put(_PLACE, content)
        put = time.perf_counter()
        size = sum([len(piece) async for piece in await store.get(_PLACE)])
        got = time.perf_counter()
        assert size == len(content)
        await store.delete(_PLACE)
        into.append(size / 1e6 / (put - began))
        out.append(size / 1e6 / (got - put))
    work = f"object of {mebibytes} MiB"
    return [
        Verdict.of(f"{work} in", into[1:], "MB/s", 150, at_least=True),
        Verdict.of(f"{work} out", out[1:], "MB/s", 300, at_least=True),
    ]
