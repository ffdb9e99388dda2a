"""Metadata on PostgreSQL: ten million blocks beside ten thousand, in turns, on one server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from benchmarks.harness.figures import Verdict, median, ratios
from benchmarks.harness.huge_pages import huge_pages
from benchmarks.harness.section import Bench, Section, Table
from benchmarks.postgres.build import build
from benchmarks.postgres.objects import measure_objects
from benchmarks.postgres.plans import write_plans
from benchmarks.postgres.work import Work
from graviton.backends.postgres.database import PgDatabase
from graviton.core.attributes import BinaryAttributes
from tests.postgres_server import PgServer

__all__ = ["measure"]

SMALL, LARGE = 10_000, 10_000_000

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "4GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",
}

_SIZES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relnamespace = %s::regnamespace AND relname IN ('blocks', 'refs') ORDER BY relname
"""

_HUGE_PAGES_MIB = 4500
"""For shared_buffers and what the server keeps beside them."""

_WARM_UP = 300
"""Claims of 1,000 random blocks, after which a server process has seen nine of ten pages of the large tables."""

Call = Callable[[Work], Awaitable[float]]

CALLS: dict[str, Call] = {
    "claims of 1,000 known blocks, of one blob": Work.claim_together,
    "claims of 1,000 known blocks, from anywhere": Work.claim_known,
    "claims of 1,000 new blocks": Work.claim_new,
    "put of 1,000 blocks, half known": Work.put_thousand,
    "put of 1 block, one task": Work.put_one,
    "put of 1 block, 8 tasks": Work.put_by_eight,
    "put of 1 block, in batches of 256, 2 at once": Work.put_batches,
    "stat": Work.stat,
    "page of 4,096 entries": Work.page,
    "delete or undelete": Work.delete,
    "list of 100": Work.list_hundred,
}

TARGETS: dict[str, tuple[str, float, bool]] = {
    "claims of 1,000 known blocks, of one blob": ("ms", 25, False),
    "claims of 1,000 known blocks, from anywhere": ("ms", 25, False),
    "claims of 1,000 new blocks": ("ms", 25, False),
    "put of 1,000 blocks, half known": ("ms", 60, False),
    "put of 1 block, 8 tasks": ("/s", 1000, True),
    "put of 1 block, in batches of 256, 2 at once": ("/s", 10_000, True),
    "stat": ("/s", 4000, True),
    "page of 4,096 entries": ("ms", 5, False),
}
"""Unit, bound, and whether more is better; at ten million blocks."""


class _Outcome(NamedTuple):
    seconds: dict[str, dict[int, list[float]]]
    """By call and number of blocks."""
    objects: list[Verdict]
    mib: dict[str, int]
    """Per million blocks, by table."""
    server: str
    """Version, and whether it has huge pages."""


def measure(bench: Bench) -> Section:
    """Everything but ranges and copies, which have a folder of their own."""
    counts = [SMALL, bench.pick(LARGE, 200_000)]
    section = Section("postgres", f"metadata on PostgreSQL, {counts[1]:,} blocks beside {counts[0]:,}")
    settings = "\n".join(f"{name} = {value}" for name, value in SETTINGS.items())
    with huge_pages(_HUGE_PAGES_MIB):
        server = PgServer("18", settings)
        try:
            runs, objects, mib, what = asyncio.run(_run(bench, server, counts))
        finally:
            server.remove()
    section.notes = [
        f"{what}, on this machine, unix socket: {', '.join(settings.splitlines())}",
        "metadata only: no block is written; all transactions of a put; medians of the repetitions",
        f"size with indexes for each million blocks: {', '.join(f'{name} {size} MiB' for name, size in mib.items())}",
    ]
    section.raw = {"seconds": runs, "mib_per_million_blocks": mib}
    section.tables = [_table(runs, counts)]
    for work, (unit, bound, more) in TARGETS.items():
        seconds = runs[work][counts[1]]
        figures = [1000 * one for one in seconds] if unit == "ms" else [1 / one for one in seconds]
        section.verdicts.append(Verdict.of(f"{work}, {counts[1]:,} blocks", figures, unit, bound, at_least=more))
    for work, by_count in runs.items():
        found = ratios(by_count[counts[1]], by_count[counts[0]])
        section.verdicts.append(Verdict.of(f"{work}: {counts[1]:,} blocks / {counts[0]:,}", found, "x", 1.3))
    section.verdicts += objects
    return section


async def _run(bench: Bench, server: PgServer, counts: list[int]) -> _Outcome:
    async with AsyncExitStack() as stack:
        works = []
        for count in counts:
            schema = f"bench_{count}"
            database = PgDatabase(server.config(schema))
            stack.push_async_callback(database.aclose)
            async with database.unpooled("build") as connection:
                await connection.execute("SET statement_timeout TO 0")
                await build(connection, schema, count, BinaryAttributes.EMPTY.to_bytes())
                rows = await (await connection.execute(_SIZES, [schema])).fetchall()
            if not works:
                bench.say("objects")
                objects = await measure_objects(database, bench.pick(256, 32), bench.pick(7, 3))
            mib = {name: round(size / 2**20 / (count / 1e6)) for name, size in rows}
            bench.say(f"{count:,} blocks are there")
            works.append(Work(database, count, seed=count))
        async with works[0].database.unpooled("facts") as connection:
            facts = [await _shown(connection, name) for name in ("server_version", "huge_pages_status")]
        seconds = await _seconds(bench, works)
        await write_plans(works[-1], (bench.space.root if bench.quick else Path(__file__).parent) / "plans.txt")
    return _Outcome(seconds, objects, mib, f"PostgreSQL {facts[0]}, huge pages {facts[1]}")


async def _shown(connection: AsyncConnection[Any], name: str) -> str:
    row = await (await connection.execute(f"SHOW {name}")).fetchone()
    assert row is not None
    return str(row[0])


async def _seconds(bench: Bench, works: list[Work]) -> dict[str, dict[int, list[float]]]:
    """Every call on every schema, in turns; plans are made, connections opened, caches warm before."""
    for work in works:
        for call in CALLS.values():
            for _ in range(2):
                await call(work)
        for _ in range(bench.pick(_WARM_UP, 3)):
            await work.claim_known()
    bench.say("warm")
    runs: dict[str, dict[int, list[float]]] = {name: {work.blocks: [] for work in works} for name in CALLS}
    for repetition in range(bench.pick(15, 3)):
        for name, call in CALLS.items():
            for work in works if repetition % 2 else works[::-1]:
                runs[name][work.blocks].append(await call(work))
        bench.say(f"repetition {repetition + 1}")
    return runs


def _table(runs: dict[str, dict[int, list[float]]], counts: list[int]) -> Table:
    table = Table(["work", *(f"{count:,} blocks" for count in counts), "ratio"])
    for name, by_count in runs.items():
        small, large = by_count[counts[0]], by_count[counts[1]]
        table.add(name, _ms(small), _ms(large), f"{median(ratios(large, small)):.2f}")
    return table


def _ms(seconds: list[float]) -> str:
    return f"{1000 * median(seconds):.2f} ms"
