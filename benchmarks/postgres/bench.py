"""Metadata on PostgreSQL: ten million blocks beside ten thousand, in turns, on one server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.harness.figures import Verdict, median, ratios
from benchmarks.harness.section import Bench, Section, Table
from benchmarks.postgres.build import build
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

Call = Callable[[Work], Awaitable[float]]

CALLS: dict[str, Call] = {
    "claims of 1,000 known blocks": Work.claim_known,
    "claims of 1,000 new blocks": Work.claim_new,
    "put of 1,000 blocks, half known": Work.put_thousand,
    "put of 1 block, one task": Work.put_one,
    "put of 1 block, 8 tasks": Work.put_by_eight,
    "put of 1 block, in batches of 256": Work.put_batch,
    "stat": Work.stat,
    "page of 4,096 entries": Work.page,
    "delete or undelete": Work.delete,
    "list of 100": Work.list_hundred,
}

TARGETS: dict[str, tuple[str, float, bool]] = {
    "claims of 1,000 known blocks": ("ms", 25, False),
    "claims of 1,000 new blocks": ("ms", 25, False),
    "put of 1,000 blocks, half known": ("ms", 60, False),
    "put of 1 block, 8 tasks": ("/s", 1000, True),
    "put of 1 block, in batches of 256": ("/s", 10_000, True),
    "stat": ("/s", 4000, True),
    "page of 4,096 entries": ("ms", 5, False),
}
"""Unit, bound, and whether more is better; at ten million blocks."""


def measure(bench: Bench) -> Section:
    """Everything but objects, ranges and copies, which have folders of their own."""
    counts = [SMALL, bench.pick(LARGE, 200_000)]
    section = Section("postgres", f"metadata on PostgreSQL, {counts[1]:,} blocks beside {counts[0]:,}")
    settings = "\n".join(f"{name} = {value}" for name, value in SETTINGS.items())
    server = PgServer("18", settings)
    try:
        runs, version, sizes = asyncio.run(_run(bench, server, counts))
    finally:
        server.remove()
    section.notes = [
        f"PostgreSQL {version} on this machine, unix socket: {', '.join(settings.splitlines())}",
        "metadata only: no block is written; all transactions of a put; medians of the repetitions",
        f"size with indexes for each million blocks: {', '.join(f'{name} {mib} MiB' for name, mib in sizes.items())}",
    ]
    section.raw = {"seconds": runs, "mib_per_million_blocks": sizes}
    section.tables = [_table(runs, counts)]
    for work, (unit, bound, more) in TARGETS.items():
        seconds = runs[work][counts[1]]
        figures = [1000 * one for one in seconds] if unit == "ms" else [1 / one for one in seconds]
        section.verdicts.append(Verdict.of(f"{work}, {counts[1]:,} blocks", figures, unit, bound, at_least=more))
    for work, by_count in runs.items():
        found = ratios(by_count[counts[1]], by_count[counts[0]])
        section.verdicts.append(Verdict.of(f"{work}: {counts[1]:,} blocks / {counts[0]:,}", found, "x", 1.3))
    return section


async def _run(
    bench: Bench, server: PgServer, counts: list[int]
) -> tuple[dict[str, dict[int, list[float]]], str, dict[str, int]]:
    """Seconds by call and number of blocks, the server's version, and MiB per million blocks by table."""
    runs: dict[str, dict[int, list[float]]] = {name: {count: [] for count in counts} for name in CALLS}
    async with AsyncExitStack() as stack:
        works = []
        for count in counts:
            schema = f"bench_{count}"
            database = PgDatabase(server.config(schema))
            stack.push_async_callback(database.aclose)
            async with database.unpooled("build") as connection:
                await connection.execute("SET statement_timeout TO 0")
                await build(connection, schema, count, BinaryAttributes.EMPTY.to_bytes())
                row = await (await connection.execute("SHOW server_version")).fetchone()
                sizes = {
                    name: round(size / 2**20 / (count / 1e6))
                    for name, size in await (await connection.execute(_SIZES, [schema])).fetchall()
                }
            bench.say(f"{count:,} blocks are there")
            works.append(Work(database, count, seed=count))
        for work in works:  # plans are made, connections opened, caches warm
            for call in CALLS.values():
                for _ in range(2):
                    await call(work)
        for repetition in range(bench.pick(15, 3)):
            for name, call in CALLS.items():
                for work in works if repetition % 2 else works[::-1]:
                    runs[name][work.blocks].append(await call(work))
            bench.say(f"repetition {repetition + 1}")
        await write_plans(works[-1], Path(__file__).with_name("plans.txt"))
    assert row is not None
    return runs, str(row[0]), sizes


def _table(runs: dict[str, dict[int, list[float]]], counts: list[int]) -> Table:
    table = Table(["work", *(f"{count:,} blocks" for count in counts), "ratio"])
    for name, by_count in runs.items():
        small, large = by_count[counts[0]], by_count[counts[1]]
        table.add(name, _ms(small), _ms(large), f"{median(ratios(large, small)):.2f}")
    return table


def _ms(seconds: list[float]) -> str:
    return f"{1000 * median(seconds):.2f} ms"
