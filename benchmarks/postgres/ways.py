"""How rows get into PostgreSQL fastest, INSERT … unnest or COPY; and pages out of it, by keyset or by cursor.

`PYTHONPATH=src python -m benchmarks.postgres.ways [--rounds N]` makes a server and prints one JSON object per figure
with all rounds, in milliseconds; ways are taken in turns. Rows are random claims of blocks that are there, and new
blocks, among 200,000. Nobody waits for the disk, which is the same for all.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from psycopg import AsyncConnection

from benchmarks.postgres.build import build
from graviton.backends.postgres._arrays import Bigints, Byteas, Smallints
from graviton.backends.postgres._scripts import Statement, send
from graviton.backends.postgres._soundness import PAGES_AFTER
from graviton.backends.postgres.database import PgDatabase
from graviton.core.attributes import BinaryAttributes
from graviton.metadata.page_reads import READ_PAGES
from tests.postgres_server import PgServer

BLOCKS = 200_000
COUNTS = (10, 100, 1_000, 10_000)
PAGES = 64
"""Of one manifest: 64 GiB at the default chunk size."""

PAGE_BYTES = 147_500

Connection = AsyncConnection[Any]
Rows = list[tuple[Any, ...]]
Way = Callable[[Connection, Rows], Awaitable[object]]

BEGIN = [Statement("BEGIN"), Statement("SET LOCAL synchronous_commit TO off")]
COMMIT = Statement("COMMIT")
OWNER = "INSERT INTO owners VALUES (%b::bigint, 1, 1, 0, false, 1, 1, 1)"

INSERT_REFS = """
INSERT INTO refs (owner_id, block_id, kind)
SELECT * FROM unnest(%(owners)b::bigint[], %(blocks)b::bigint[], %(kinds)b::smallint[])
"""
INSERT_BLOCKS = """
INSERT INTO blocks (domain_id, algo, digest, size, state, generation)
SELECT 1, 1, digest, 100, 1, 1 FROM unnest(%(digests)b::bytea[]) AS new(digest) ON CONFLICT DO NOTHING RETURNING id
"""
INSERT_FROM_COPY = """
INSERT INTO blocks (domain_id, algo, digest, size, state, generation)
SELECT * FROM copied ON CONFLICT DO NOTHING RETURNING id
"""
COPIED = """
CREATE TEMPORARY TABLE copied (domain_id int, algo smallint, digest bytea, size int, state smallint, generation bigint)
ON COMMIT DELETE ROWS
"""
COPY_REFS = "COPY refs (owner_id, block_id, kind) FROM STDIN (FORMAT binary)"
COPY_BLOCKS = "COPY {table} (domain_id, algo, digest, size, state, generation) FROM STDIN (FORMAT binary)"

HEAD, END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
REF = struct.Struct("!hiqiqih")
BLOCK = struct.Struct("!hiiihi32siiihiq")


async def refs_by_insert(connection: Connection, rows: Rows) -> None:
    """As claims are written: all in one message."""
    owners, blocks, kinds = zip(*rows, strict=True)
    values = {"owners": Bigints(owners), "blocks": Bigints(blocks), "kinds": Smallints(kinds)}
    await send(connection, [*BEGIN, Statement(OWNER, [owners[0]]), Statement(INSERT_REFS, values), COMMIT])


async def refs_by_copy_of_rows(connection: Connection, rows: Rows) -> None:
    """Rows made binary by the driver."""
    await send(connection, [*BEGIN, Statement(OWNER, [rows[0][0]])])
    async with connection.cursor() as cursor, cursor.copy(COPY_REFS) as copy:
        copy.set_types(["int8", "int8", "int2"])
        for row in rows:
            await copy.write_row(row)
    await send(connection, [COMMIT])


async def refs_by_copy(connection: Connection, rows: Rows) -> None:
    """Rows made binary by ourselves."""
    await send(connection, [*BEGIN, Statement(OWNER, [rows[0][0]])])
    pack = REF.pack
    data = b"".join([pack(3, 8, owner, 8, block, 2, kind) for owner, block, kind in rows])
    await _copy(connection, COPY_REFS, data)
    await send(connection, [COMMIT])


async def blocks_by_insert(connection: Connection, rows: Rows) -> None:
    """As new blocks are written; those that are there already are passed over."""
    values = {"digests": Byteas(digest for (digest,) in rows)}
    await send(connection, [*BEGIN, Statement(INSERT_BLOCKS, values), COMMIT])


async def blocks_by_copy(connection: Connection, rows: Rows) -> None:
    """Straight into the table: for blocks that cannot be there, and without their numbers."""
    await send(connection, BEGIN)
    await _copy(connection, COPY_BLOCKS.format(table="blocks"), _packed_blocks(rows))
    await send(connection, [COMMIT])


async def blocks_by_copy_and_insert(connection: Connection, rows: Rows) -> None:
    """By way of a temporary table, which does what the INSERT does."""
    await send(connection, BEGIN)
    await _copy(connection, COPY_BLOCKS.format(table="copied"), _packed_blocks(rows))
    await send(connection, [Statement(INSERT_FROM_COPY), COMMIT])


def _packed_blocks(rows: Rows) -> bytes:
    pack = BLOCK.pack
    return b"".join([pack(6, 4, 1, 2, 1, 32, digest, 4, 100, 2, 1, 8, 1) for (digest,) in rows])


async def _copy(connection: Connection, sql: str, data: bytes) -> None:
    async with connection.cursor() as cursor, cursor.copy(sql) as copy:
        await copy.write(HEAD + data + END)


async def pages_by_keyset(connection: Connection, rows: Rows) -> None:
    """As manifests are read."""
    after, found = 0, rows
    while found:
        values = {"owner": 1, "after": after, "limit": READ_PAGES}
        found = (await send(connection, [Statement(PAGES_AFTER, values)]))[0].rows
        after = found[-1][0] if found else after


async def pages_by_cursor(connection: Connection, rows: Rows) -> None:
    """A transaction that lasts as long as somebody reads."""
    async with connection.transaction(), connection.cursor("pages", binary=True) as cursor:
        await cursor.execute("SELECT end_offset, data FROM pages WHERE owner_id = 1 ORDER BY end_offset")
        while rows:
            rows = await cursor.fetchmany(READ_PAGES)


REFS: Sequence[Way] = (refs_by_insert, refs_by_copy_of_rows, refs_by_copy)
NEW_BLOCKS: Sequence[Way] = (blocks_by_insert, blocks_by_copy_and_insert, blocks_by_copy)
READS: Sequence[Way] = (pages_by_keyset, pages_by_cursor)


async def measure(server: PgServer, rounds: int) -> None:
    """Print every figure."""
    database = PgDatabase(server.config("ways"))
    async with database.unpooled("build") as connection:
        await connection.execute("SET statement_timeout TO 0")
        await build(connection, "ways", BLOCKS, BinaryAttributes.EMPTY.to_bytes())
        await connection.execute(
            "INSERT INTO pages SELECT 1, n, decode(repeat('ab', %s), 'hex') FROM generate_series(1, %s) n",
            [PAGE_BYTES, PAGES],
        )
    owners = itertools.count(10**9)
    draw = random.Random(1)

    def claims(count: int) -> Rows:
        owner = next(owners)
        return [(owner, block, 2) for block in sorted(draw.sample(range(1, BLOCKS + 1), count))]

    def new(count: int) -> Rows:
        return [(digest,) for digest in sorted(os.urandom(32) for _ in range(count))]

    async with database.connection() as connection:
        await connection.execute(COPIED)
        for count in COUNTS:
            await _rounds(connection, REFS, lambda count=count: claims(count), count, rounds)  # type: ignore[misc]
            await _rounds(connection, NEW_BLOCKS, lambda count=count: new(count), count, rounds)  # type: ignore[misc]
        await _rounds(connection, READS, lambda: [(1,)], PAGES, rounds)
    await database.aclose()


async def _rounds(
    connection: Connection, ways: Sequence[Way], rows: Callable[[], Rows], count: int, rounds: int
) -> None:
    """Every way in turns, on rows of its own; the first round, in which statements are prepared, does not count."""
    taken: dict[str, list[float]] = {way.__name__: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways if number % 2 else ways[::-1]:
            some = rows()
            began = time.perf_counter()
            await way(connection, some)
            if number:
                taken[way.__name__].append(round(1000 * (time.perf_counter() - began), 3))
    for name, milliseconds in taken.items():
        print(json.dumps({"figure": name, "rows": count, "milliseconds": milliseconds}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    arguments = parser.parse_args()
    made = PgServer("18", "fsync = on\nshared_buffers = 1GB\nmax_wal_size = 8GB\n")
    try:
        asyncio.run(measure(made, arguments.rounds))
    finally:
        made.remove()
