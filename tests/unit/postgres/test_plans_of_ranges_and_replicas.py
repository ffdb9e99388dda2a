"""No statement about ranges or copies reads a whole table, whatever the server knows of its parameters.

100,000 ranges of one locator among others, and 100,000 copies of 50,000 keys. Plans are looked at twice: with values,
and as the server keeps them for a prepared statement, without. Then the calls themselves are made, often enough for
plans to be kept, and the server has counted no sequential scan, also in checks of foreign keys.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from graviton.backends.postgres import range_tracker as ranges
from graviton.backends.postgres import replica_index as replicas
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.range_tracker import PgRangeTracker
from graviton.backends.postgres.replica_index import PgReplicaIndex
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.metadata.known_ranges import place_of
from graviton.ports.replicas import ReplicaState
from graviton.testing.conformance.metadata_values import block_key
from tests.postgres_databases import Watched, fresh_schema, opened

pytestmark = pytest.mark.postgres

PLACE = Locator("s3", "uploads", "x")

FILL = """
INSERT INTO range_heads (place, tag, locator) SELECT sha256(int8send(n)), '12345678', 's3://b/' || n
FROM generate_series(1, 5000) AS n;
INSERT INTO ranges SELECT h.id, 2 * n, 2 * n + 1 FROM range_heads h, generate_series(1, 4) AS n;
INSERT INTO replica_counts SELECT 1, sha256(int8send(n)), 100, 2 - (n % 100 = 0)::int
FROM generate_series(1, 50000) AS n;
INSERT INTO replicas SELECT 1, sha256(int8send(n)), 100, substr(sha256(int8send(copy)), 1, 16),
    's3://sector-' || (n + copy) % 10 || '/cas/' || n, 1 + (copy = 1 AND n % 100 = 0)::int, n % 1000
FROM generate_series(1, 50000) AS n, generate_series(0, 1) AS copy;
"""

SPANS = {"head": 5001, "starts": [2 * n + 1 for n in range(0, 100_000, 100)]}
SPANS["ends"] = [start + 1 for start in SPANS["starts"]]
BLOCK = {"algo": 1, "digest": bytes(32), "size": 100}
COPY = BLOCK | {"id": bytes(16), "ids": [bytes(16)], "locators": ["s3://a/b"]}
AFTER = {"after_algo": 1, "after_digest": b"\x80" + bytes(31), "after_size": 100, "after_id": bytes(16), "limit": 256}

HEADS, RANGES = "range_heads_place_is_unique", "ranges_are_unique"
COUNTS, COPIES = "replica_counts_key_is_unique", "replicas_are_unique"

STATEMENTS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "ranges, lock": (ranges._LOCK, {"place": place_of(PLACE)}, {HEADS}),
    "ranges, make": (ranges._MAKE, {"place": place_of(PLACE), "tag": bytes(8), "locator": PLACE.text}, set()),
    "ranges, read": (ranges._READ, {"place": place_of(PLACE), "known": b""}, {HEADS, RANGES}),
    "ranges, merge many": (ranges._MERGE, SPANS, {RANGES}),
    "ranges, merge one": (ranges._MERGE, {"head": 5001, "starts": [101], "ends": [102]}, {RANGES}),
    "ranges, retag": (ranges._RETAG, {"head": 5001, "tag": bytes(8)}, {"range_heads_pkey"}),
    "ranges, clear": (ranges._CLEAR, {"head": 5001, "rows": 10_000}, {RANGES}),
    "ranges, forget": (ranges._FORGET, {"head": 5001}, {"range_heads_pkey"}),
    "replicas, details": (replicas._DETAILS, BLOCK, {COPIES}),
    "replicas, lock": (replicas._LOCK, BLOCK, {COUNTS}),
    "replicas, lock or make": (replicas._LOCK_OR_MAKE, BLOCK | {"live": 1}, set()),
    "replicas, remove": (replicas._REMOVE, COPY, {COPIES}),
    "replicas, add": (replicas._ADD, COPY, set()),
    "replicas, mark": (replicas._MARK, COPY | {"state": 1, "verified_at": 5}, {COPIES}),
    "replicas, count": (replicas._COUNT, BLOCK, {COUNTS, COPIES}),
    "replicas, forget": (replicas._FORGET, BLOCK, {COUNTS}),
    "replicas, short of": (replicas._SHORT_OF, AFTER | {"copies": 3}, {"replica_counts_by_live"}),
    "replicas, in sector": (replicas._IN_SECTOR, AFTER | {"bucket": "sector-3"}, {"replicas_by_bucket"}),
    "replicas, oldest verified": (replicas._OLDEST_VERIFIED, AFTER | {"after_time": 500}, {"replicas_by_verified"}),
}
"""Statement, values, and the indexes it walks: another one may walk everything too."""

UNSORTED = ("replicas, in sector", "replicas, oldest verified")
"""Pages that come out of an index as they are, so that none costs more than its own rows."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def schema() -> AsyncIterator[str]:
    async with fresh_schema() as made, opened(made) as (database,):
        async with database.connection() as connection:
            await connection.execute(FILL)
        await PgRangeTracker(database).merge_many(PLACE, [Span(2 * n, 2 * n + 1) for n in range(100_000)])
        async with database.connection() as connection:
            await connection.execute("ANALYZE range_heads, ranges, replica_counts, replicas")
        yield made


@pytest.fixture
async def database(schema: str) -> AsyncIterator[Watched]:
    async with opened(schema) as (made,):
        yield made


async def plans(database: PgDatabase, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """With values, and without."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)b", sql)))
    numbered = re.sub(r"%\((\w+)\)b", lambda match: f"${names.index(match[1]) + 1}", sql)
    async with database.connection() as connection:
        cursor = await connection.execute(f"EXPLAIN (FORMAT JSON) {sql}", {name: values[name] for name in names})
        found = [(await cursor.fetchall())[0][0][0]["Plan"]]
        await connection.execute("SET plan_cache_mode TO force_generic_plan")
        await connection.execute(f"PREPARE asked AS {numbered}")
        cursor = await connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked({', '.join('NULL' for _ in names)})")
        found.append((await cursor.fetchall())[0][0][0]["Plan"])
        return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statement_walks_its_indexes(database: Watched, name: str) -> None:
    sql, values, indexes = STATEMENTS[name]
    for plan in await plans(database, sql, values):
        kinds = {node["Node Type"] for node in nodes(plan)}
        assert "Seq Scan" not in kinds, plan
        assert {node["Index Name"] for node in nodes(plan) if "Index Name" in node} == indexes, plan
        assert not (name in UNSORTED and "Sort" in kinds), plan


async def scans(schema: str) -> dict[str, int]:
    async with opened(schema) as (database,):
        rows = await database.fetch(
            "test", "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = %b", [schema]
        )
        return {name: count for name, count in rows if name.startswith(("range", "replica"))}


async def test_calls_make_no_sequential_scan(schema: str) -> None:
    before = await scans(schema)
    assert len(before) == 4
    async with opened(schema) as (database,):  # its connections report what they did when they are closed
        tracker, index = PgRangeTracker(database), PgReplicaIndex(database)
        for number in range(15):  # after five runs a statement is prepared, after five more its plan may be kept
            await tracker.merge(PLACE, Span(200 * number + 1, 200 * number + 2))
            await tracker.merge_many(PLACE, [Span(n, n + 1) for n in range(number + 30_001, 60_000, 200)])
            await PgRangeTracker(database).current(PLACE)
            other = Locator("s3", "uploads", f"y{number}")
            await tracker.merge(other, Span(0, 1))
            await tracker.clear(other)
            key = block_key(str(number))
            await index.update(key, [PLACE, other])
            await index.mark(key, other, ReplicaState.MISSING, 5)
            await index.details(key)
            async for _ in index.short_of(2):
                break
            async for _ in index.in_sector("sector-4"):
                break
            async for _ in index.oldest_verified():
                break
            await index.update(key, [])
    assert await scans(schema) == before
