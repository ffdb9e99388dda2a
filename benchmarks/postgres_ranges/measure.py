"""Five ways to keep the ranges of a locator in PostgreSQL: what a merge costs. Results: README.md.

    python benchmarks/postgres_ranges/measure.py "host=… dbname=…" > results.jsonl

It makes the schema `ranges_bench` and removes it.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from typing import Any, NamedTuple

import psycopg

SPANS = 100_000
BATCH = 1_000

NEW = "SELECT * FROM unnest(%(starts)b::bigint[], %(ends)b::bigint[]) AS n(s, e)"

ROWS = """
CREATE TABLE ranges (locator_id bigint NOT NULL, s bigint NOT NULL, e bigint NOT NULL, PRIMARY KEY (locator_id, s),
    CHECK (0 <= s AND s < e)) WITH (fillfactor = 90)
"""

MET = f"""
new AS ({NEW}),
met AS (
    SELECT r.s, r.e FROM new n CROSS JOIN LATERAL (
        SELECT r.s, r.e FROM ranges r
        WHERE r.locator_id = 1 AND r.s <= n.e AND r.e >= n.s AND r.s >= coalesce(
            (SELECT b.s FROM ranges b WHERE b.locator_id = 1 AND b.s <= n.s ORDER BY b.s DESC LIMIT 1), n.s)
    ) AS r
)
"""
REPLACE = """,
gone AS (
    DELETE FROM ranges WHERE locator_id = 1 AND s = ANY(ARRAY(SELECT s FROM met EXCEPT SELECT s FROM merged))
)
INSERT INTO ranges (locator_id, s, e) SELECT 1, s, e FROM merged
ON CONFLICT (locator_id, s) DO UPDATE SET e = EXCLUDED.e
"""
UNBOUNDED = f"""
new AS ({NEW}),
met AS (
    SELECT r.s, r.e FROM new n JOIN ranges r ON r.locator_id = 1 AND r.s <= n.e AND r.e >= n.s
)
"""
AGGREGATED = """,
merged AS (
    SELECT lower(r) AS s, upper(r) AS e FROM (
        SELECT unnest(range_agg(int8range(s, e))) AS r FROM (SELECT s, e FROM new UNION ALL SELECT s, e FROM met) AS x
    ) AS y
)
"""
WINDOWED = """,
merged AS (
    SELECT min(s) AS s, max(e) AS e FROM (
        SELECT s, e, count(*) FILTER (WHERE reached IS NULL OR reached < s) OVER (ORDER BY s, e) AS island FROM (
            SELECT s, e, max(e) OVER (ORDER BY s, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
            FROM (SELECT s, e FROM new UNION ALL SELECT s, e FROM met) AS x
        ) AS y
    ) AS z GROUP BY island
)
"""


class Way(NamedTuple):
    """One way: its table, the statements of a merge, and how ranges are counted and read."""

    table: str
    merge: tuple[str, ...]
    count: str = "SELECT count(*) FROM ranges"
    before: str = ""
    """Run once after the table was made."""


GIST_MET = f"""
new AS ({NEW}),
met AS (  -- one byte more at both ends: what meets it end to start overlaps that
    SELECT r.ctid AS place, r.bytes FROM new n JOIN ranges r ON r.bytes && int8range(n.s - 1, n.e + 1)
)
"""

WAYS = {
    "row, btree, range_agg": Way(ROWS, (f"WITH {MET}{AGGREGATED}{REPLACE}",)),
    "row, btree, window functions": Way(ROWS, (f"WITH {MET}{WINDOWED}{REPLACE}",)),
    "row, btree, one bound only": Way(ROWS, (f"WITH {UNBOUNDED}{AGGREGATED}{REPLACE}",)),
    "row, int8range, GiST exclusion": Way(
        """
        CREATE TABLE ranges (locator_id bigint NOT NULL, bytes int8range NOT NULL CHECK (NOT isempty(bytes)),
            EXCLUDE USING gist (bytes WITH &&))
        """,  # the locator belongs into the constraint, which needs the extension btree_gist: left out in its favour
        (
            # In two statements: an exclusion constraint sees rows that the same statement removes.
            f"""
            WITH {GIST_MET}, gone AS (DELETE FROM ranges WHERE ctid = ANY(ARRAY(SELECT place FROM met)))
            INSERT INTO kept SELECT range_agg(x.r) FROM (
                SELECT int8range(s, e) AS r FROM new UNION ALL SELECT bytes FROM met) AS x
            """,
            "INSERT INTO ranges SELECT 1, unnest(r) FROM kept",
            "DELETE FROM kept",
        ),
        before="CREATE TEMPORARY TABLE kept (r int8multirange)",
    ),
    "one int8multirange": Way(
        "CREATE TABLE ranges (locator_id bigint PRIMARY KEY, bytes int8multirange NOT NULL)",
        (
            f"""
            INSERT INTO ranges SELECT 1, range_agg(int8range(n.s, n.e)) FROM ({NEW}) AS n
            ON CONFLICT (locator_id) DO UPDATE SET bytes = ranges.bytes + EXCLUDED.bytes
            """,
        ),
        "SELECT coalesce(sum((SELECT count(*) FROM unnest(bytes))), 0) FROM ranges",
    ),
}


class Bench:
    """One way in a fresh table."""

    def __init__(self, connection: psycopg.Connection[Any], way: Way) -> None:
        self._connection = connection
        self._way = way
        connection.execute("DROP SCHEMA IF EXISTS ranges_bench CASCADE")
        connection.execute("CREATE SCHEMA ranges_bench")
        connection.execute("SET search_path TO ranges_bench")
        connection.execute("SET synchronous_commit TO off")  # the disk is the same for all
        connection.execute("CREATE TABLE heads (id bigint PRIMARY KEY)")
        connection.execute("INSERT INTO heads VALUES (1)")
        connection.execute(way.table)
        connection.execute("DROP TABLE IF EXISTS kept")
        if way.before:
            connection.execute(way.before)

    def merge(self, spans: list[tuple[int, int]]) -> None:
        values = {"starts": [start for start, _ in spans], "ends": [end for _, end in spans]}
        with self._connection.transaction():
            self._connection.execute("SELECT FROM heads WHERE id = 1 FOR NO KEY UPDATE")
            for sql in self._way.merge:
                self._connection.execute(sql, values if "%(" in sql else None)

    def count(self) -> int:
        row = self._connection.execute(self._way.count).fetchone()
        assert row is not None
        return int(row[0])

    def settled(self) -> float:
        """Leave nothing to do for autovacuum; the size."""
        self._connection.execute("VACUUM ANALYZE ranges")
        return self.megabytes()

    def megabytes(self) -> float:
        row = self._connection.execute("SELECT pg_total_relation_size('ranges') / 1e6").fetchone()
        assert row is not None
        return round(float(row[0]), 1)


def in_batches(bench: Bench) -> dict[str, Any]:
    """All spans, 1,000 at a time, in random order."""
    order = list(range(SPANS))
    random.Random(1).shuffle(order)
    began = time.perf_counter()
    slowest = 0.0
    for at in range(0, SPANS, BATCH):
        one = time.perf_counter()
        bench.merge([(n, n + 1) for n in sorted(order[at : at + BATCH])])
        slowest = max(slowest, time.perf_counter() - one)
    seconds = time.perf_counter() - began
    assert bench.count() == 1, bench.count()
    return {"seconds": round(seconds, 2), "slowest_ms": round(slowest * 1e3, 1), "megabytes": bench.megabytes()}


def singly(bench: Bench, ranges: int, count: int) -> dict[str, Any]:
    """Single spans into many ranges, anywhere: each fills a gap and joins two."""
    for at in range(0, ranges, 10_000):
        bench.merge([(2 * n, 2 * n + 1) for n in range(at, min(at + 10_000, ranges))])
    megabytes = bench.settled()
    gaps = random.Random(2).sample(range(ranges - 1), count)
    times = []
    for gap in gaps:
        began = time.perf_counter()
        bench.merge([(2 * gap + 1, 2 * gap + 2)])
        times.append(time.perf_counter() - began)
    assert bench.count() == ranges - count
    return {
        "ranges": ranges,
        "median_ms": round(statistics.median(times) * 1e3, 3),
        "last_tenth_median_ms": round(statistics.median(times[-count // 10 :]) * 1e3, 3),
        "megabytes_at_first": megabytes,
    }


def appended(bench: Bench, count: int) -> dict[str, Any]:
    """An upload that goes on at its end: one range that grows."""
    times = []
    for n in range(count):
        began = time.perf_counter()
        bench.merge([(n, n + 1)])
        times.append(time.perf_counter() - began)
    assert bench.count() == 1
    tenth = count // 10
    return {
        "median_ms": round(statistics.median(times) * 1e3, 3),
        "last_tenth_median_ms": round(statistics.median(times[-tenth:]) * 1e3, 3),
        "megabytes": bench.megabytes(),
    }


def main() -> None:
    """Measure every way and print a line of JSON for each."""
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        for name, way in WAYS.items():
            if len(sys.argv) > 2 and sys.argv[2] not in name:
                continue
            figures: dict[str, Any] = {"way": name, "server": connection.info.server_version}
            figures["batches"] = in_batches(Bench(connection, way))
            figures["singly"] = [singly(Bench(connection, way), ranges, 500) for ranges in (1_000, 10_000, 100_000)]
            figures["appended"] = appended(Bench(connection, way), 5_000)
            print(json.dumps(figures), flush=True)
        connection.execute("DROP SCHEMA ranges_bench CASCADE")


if __name__ == "__main__":
    main()
