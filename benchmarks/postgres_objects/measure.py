"""How fast the object stores on PostgreSQL are here, by the size of their parts, and which way the parts go in fastest.

`PYTHONPATH=src python benchmarks/postgres_objects/measure.py ADDRESS [--rounds N] [--mebibytes N]`: makes a schema of
its own in that database and removes it; prints one JSON object per figure with all rounds. The first round also writes
the files of the log and of the tables for the first time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

from psycopg import AsyncConnection

from graviton.backends.postgres.config import PgConfig, parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.migrate import migrate
from graviton.backends.postgres.objects import PgMutableObjectStore, PgObjectConfig
from graviton.core.locators import Locator
from graviton.core.ranges import Span

MIB = 1 << 20
SCHEMA = "graviton_bench_objects"
PART_BYTES = (64 << 10, 256 << 10, MIB, 4 * MIB)
SMALL = 200
"""Objects of 1,000 bytes."""


def at(path: str) -> Locator:
    """The place of an object."""
    return Locator("pg", "default", path)


class Figures:
    """Rounds by name."""

    def __init__(self) -> None:
        self._rounds: dict[str, list[float]] = {}

    async def add(self, name: str, amount: float, work: Callable[[], Awaitable[object]]) -> None:
        """Measure `amount` per second of `work`."""
        began = time.perf_counter()
        await work()
        self._rounds.setdefault(name, []).append(amount / (time.perf_counter() - began))

    def show(self) -> None:
        """Print them."""
        for name, rounds in self._rounds.items():
            print(json.dumps({"figure": name, "rounds": [round(one) for one in rounds]}))


class Sources:
    """Random bytes, given in several ways."""

    def __init__(self, size: int) -> None:
        self.whole = os.urandom(size)

    def pieces(self, size: int) -> Iterator[memoryview]:
        view = memoryview(self.whole)
        for start in range(0, len(view), size):
            yield view[start : start + size]

    async def slowly(self, size: int) -> AsyncIterator[memoryview]:
        for piece in self.pieces(size):
            yield piece


async def drain(store: PgMutableObjectStore, path: str, span: Span | None = None) -> int:
    """Read an object, or some of it, to the end; the bytes read."""
    return sum([len(piece) async for piece in await store.get(at(path), span)])


async def measure_parts(database: PgDatabase, part_bytes: int, sources: Sources, figures: Figures) -> None:
    """MB/s of a large object."""
    store = PgMutableObjectStore(database, PgObjectConfig(part_bytes=part_bytes))
    size = len(sources.whole)
    label, amount = f"{part_bytes >> 10:5} KiB parts, MB/s: ", size / 1e6
    await figures.add(label + "put bytes", amount, lambda: store.put(at("x"), sources.whole))
    await store.delete(at("x"))
    await figures.add(label + "put 64 KiB pieces", amount, lambda: store.put(at("x"), sources.pieces(65_536)))
    await store.delete(at("x"))
    await figures.add(label + "put async MiB pieces", amount, lambda: store.put(at("x"), sources.slowly(MIB)))
    await figures.add(label + "get", amount, lambda: drain(store, "x"))
    await figures.add(label + "copy", amount, lambda: store.copy(at("x"), at("y")))
    await figures.add(label + "delete", amount, lambda: store.delete(at("y")))
    spans = [Span(start, start + 10_000) for start in range(12_345, size - 10_000, size // 200)]

    async def ranges() -> None:
        for span in spans:
            await drain(store, "x", span)

    await figures.add(label.replace("MB/s", "1/s") + "get 10,000 bytes", len(spans), ranges)
    await store.delete(at("x"))


async def measure_small(database: PgDatabase, figures: Figures) -> None:
    """Small objects per second, one after the other."""
    store = PgMutableObjectStore(database)

    async def each(work: Callable[[str], Awaitable[object]]) -> None:
        for number in range(SMALL):
            await work(f"small/{number:05}")

    for name, work in {
        "put": lambda path: store.put(at(path), b"x" * 1000),
        "replace": lambda path: store.put(at(path), b"y" * 1000),
        "get": lambda path: drain(store, path),
        "delete": lambda path: store.delete(at(path)),
    }.items():
        await figures.add(f"1,000 bytes, 1/s: {name}", SMALL, lambda work=work: each(work))  # type: ignore[misc]


async def measure_ways(config: PgConfig, part_bytes: int, sources: Sources, figures: Figures) -> None:
    """MB/s of a transaction per part, without anything around it: INSERT, and COPY in binary."""
    async with await AsyncConnection.connect(config.conninfo(), autocommit=True) as connection:
        await connection.execute("CREATE TABLE ways (LIKE object_parts INCLUDING ALL)")

        async def insert(sync: bool) -> None:
            content = uuid4()
            for number, part in enumerate(sources.pieces(part_bytes)):
                async with connection.pipeline():
                    await connection.execute("BEGIN")
                    if not sync:
                        await connection.execute("SET LOCAL synchronous_commit TO off")
                    await connection.execute("INSERT INTO ways VALUES (%b, %b, %b)", [content, number, part])
                    await connection.execute("COMMIT")

        async def copy() -> None:
            content = uuid4()
            for number, part in enumerate(sources.pieces(part_bytes)):
                async with connection.pipeline():
                    await connection.execute("BEGIN")
                    await connection.execute("SET LOCAL synchronous_commit TO off")
                async with connection.cursor().copy("COPY ways FROM STDIN (FORMAT binary)") as rows:
                    rows.set_types(["uuid", "int4", "bytea"])
                    await rows.write_row([content, number, part])
                await connection.execute("COMMIT")

        amount, label = len(sources.whole) / 1e6, f"{part_bytes >> 10:5} KiB parts, MB/s: bare "
        await figures.add(label + "INSERT", amount, lambda: insert(False))
        await figures.add(label + "COPY", amount, copy)
        await figures.add(label + "INSERT, each synced", amount, lambda: insert(True))
        await connection.execute("DROP TABLE ways")


async def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=256)
    args = parser.parse_args()
    separator = "&" if "?" in args.address else "?"
    config = parse_address(f"{args.address}{separator}currentSchema={SCHEMA}")
    async with await AsyncConnection.connect(config.conninfo(), autocommit=True) as connection:
        await migrate(connection, SCHEMA, "bench")
    database, sources, figures = PgDatabase(config), Sources(args.mebibytes * MIB), Figures()
    try:
        for _ in range(args.rounds):
            for part_bytes in PART_BYTES:
                await measure_ways(config, part_bytes, sources, figures)
                await measure_parts(database, part_bytes, sources, figures)
            await measure_small(database, figures)
    finally:
        await database.aclose()
        async with await AsyncConnection.connect(config.conninfo(), autocommit=True) as connection:
            await connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    figures.show()


if __name__ == "__main__":
    asyncio.run(main())
