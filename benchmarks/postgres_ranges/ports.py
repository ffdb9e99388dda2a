"""What the calls of `PgRangeTracker` and `PgReplicaIndex` cost, durable. README.md has the result.

    PYTHONPATH=src:. python benchmarks/postgres_ranges/ports.py "postgresql:///DATABASE?host=…" [COPIES]

It makes the schema `ports_bench` and removes it. COPIES: copies in the index, two per key, 1,000,000 unless given.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.migrate import migrate
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.ports.replicas import ReplicaState

UPLOAD = Locator("s3", "uploads", "x")
PAGE = 256

FILL = """
INSERT INTO replica_counts SELECT 1, sha256(int8send(n)), 65536, 2 - (n % 100 = 0)::int
FROM generate_series(1, {keys}) AS n;
INSERT INTO replicas SELECT 1, sha256(int8send(n)), 65536, substr(sha256(int8send(copy)), 1, 16),
    's3://sector-' || (n + copy) % 10 || '/cas/blocks/blake3/' || encode(sha256(int8send(n)), 'hex') || '-65536',
    1 + (copy = 1 AND n % 100 = 0)::int, n % 1000
FROM generate_series(1, {keys}) AS n, generate_series(0, 1) AS copy;
"""


def report(what: str, **figures: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"what": what, **figures}), flush=True)


async def times(what: str, call: Callable[[int], Awaitable[object]], count: int) -> None:
    """Calls one after the other."""
    taken = []
    for number in range(count):
        began = time.perf_counter()
        await call(number)
        taken.append(time.perf_counter() - began)
    report(what, median_ms=round(statistics.median(taken) * 1e3, 3), worst_ms=round(max(taken) * 1e3, 1))


async def pages(what: str, made: Callable[[], AsyncIterator[Any]], count: int) -> None:
    """The first pages of a query."""
    began, rows = time.perf_counter(), 0
    async for _ in made():
        rows += 1
        if rows == count * PAGE:
            break
    report(what, rows=rows, ms_per_page=round((time.perf_counter() - began) * 1e3 / (rows / PAGE), 2))


async def measure_ranges(database: PgDatabase) -> None:
    """Merges into 50,000 ranges, and 100,000 bytes in random order."""
    tracker = PgRangeTracker(database)
    await tracker.merge_many(UPLOAD, [Span(2 * n, 2 * n + 1) for n in range(50_000)])
    gaps = random.Random(1).sample(range(50_000), 1_000)
    await times("merge into 50,000", lambda n: tracker.merge(UPLOAD, Span(2 * gaps[n] + 1, 2 * gaps[n] + 2)), 1_000)
    await times("current, unchanged", lambda _: tracker.current(UPLOAD), 500)
    await times("current, read", lambda _: PgRangeTracker(database).current(UPLOAD), 20)
    growing = Locator("s3", "uploads", "growing")
    await times("merge at the end of one", lambda n: tracker.merge(growing, Span(n, n + 1)), 1_000)
    order = list(range(100_000))
    random.Random(2).shuffle(order)
    spans = [[Span(n, n + 1) for n in order[at : at + 1_000]] for at in range(0, 100_000, 1_000)]
    shuffled = Locator("s3", "uploads", "shuffled")
    await times("merge_many of 1,000", lambda n: tracker.merge_many(shuffled, spans[n]), 100)
    began = time.perf_counter()
    assert await tracker.clear(UPLOAD)
    report("clear 50,000", seconds=round(time.perf_counter() - began, 2))


async def measure_replicas(database: PgDatabase, copies: int) -> None:
    """Changes and pages among many copies."""
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout TO 0")
        await connection.execute(FILL.format(keys=copies // 2))
        await connection.execute("VACUUM ANALYZE replicas")
        await connection.execute("VACUUM ANALYZE replica_counts")
    rows = await database.fetch(
        "bench", "SELECT relname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes WHERE relname LIKE 'replica%%'"
    )
    sizes = await database.fetch(
        "bench", "SELECT relname, pg_table_size(relid) FROM pg_stat_user_tables WHERE relname LIKE 'replica%%'"
    )
    for name, _ in sizes:
        indexes = sum(size for table, size in rows if table == name)
        report(f"bytes per copy, {name}", table=dict(sizes)[name] // copies, indexes=indexes // copies)
    index = PgReplicaIndex(database)
    keys = [BlockKey(HashAlgo.BLAKE3.digest(str(n).encode()), 65_536) for n in range(1_000)]
    places = [Locator("s3", f"sector-{n}", "cas/blocks/blake3/x") for n in range(3)]
    await times("update, a new key of 2", lambda n: index.update(keys[n], places[:2]), 1_000)
    await times("update, one of 2 replaced", lambda n: index.update(keys[n], places[1:]), 1_000)
    await times("mark", lambda n: index.mark(keys[n], places[1], ReplicaState.PRESENT, 10**18 + n), 1_000)
    await times("details", lambda n: index.details(keys[n]), 1_000)
    await pages("short_of 2", lambda: index.short_of(2), 10)
    await pages("in_sector, 1 of 10", lambda: index.in_sector("sector-3"), 10)
    await pages("oldest_verified", index.oldest_verified, 10)


async def main() -> None:
    """Measure both and print a line of JSON per figure."""
    config = parse_address(sys.argv[1] + ("&" if "?" in sys.argv[1] else "?") + "currentSchema=ports_bench")
    database = PgDatabase(config)
    connection = await database.connect()
    await migrate(connection, config.schema, "bench")
    try:
        await measure_ranges(database)
        await measure_replicas(database, int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
    finally:
        await database.aclose()
        await connection.execute("DROP SCHEMA ports_bench CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
