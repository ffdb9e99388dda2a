"""No statement about blocks and blobs reads a whole table: not while the tables are new, and not when they have grown.

Plans are kept for as long as a connection lives, so the worst case is a connection that began with empty tables
(docs/decisions/0021). The server counts sequential scans itself, those of foreign keys among them, and the rows they
read: a scan of an empty table, or of one that has a handful of rows and no other way, costs nothing.
"""

from __future__ import annotations

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_key, block_keys, commit_of
from tests.postgres_databases import fresh_schema, opened

pytestmark = pytest.mark.postgres

TABLES = ("owners", "blocks", "refs", "candidates", "blobs", "pages", "holders")
"""Those that grow with the store; `domains` and `totals` have a few rows."""


async def rows_scanned(schema: str) -> dict[str, int]:
    async with opened(schema) as (database,):
        rows = await database.fetch(
            "test",
            "SELECT relname, seq_tup_read FROM pg_stat_all_tables WHERE schemaname = %b AND relname = ANY(%b)",
            [schema, list(TABLES)],
        )
    return dict(rows)


async def use(database: PgDatabase, rounds: int) -> None:
    """Every operation, often enough for plans to be kept (after five runs a statement is prepared)."""
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    shared = block_keys(50, "shared")
    for number in range(rounds):
        upload = Upload.of([*shared, *block_keys(30, f"{rounds}-{number}")], f"{rounds}-{number}")
        record = (await metadata.put(upload)).record
        await metadata.put(upload, holder="again")
        stepped = Upload.of(block_keys(20, f"s{rounds}-{number}"), f"s{rounds}-{number}")
        session = await metadata.session(stepped.blocks[:5])
        await metadata.index.claim(session, stepped.blocks)
        await metadata.repo.add_pages(session, stepped.pages, stepped.blocks)
        await metadata.repo.commit([commit_of(session, stepped, pages=[], confirm=[])])
        assert await metadata.repo.get(upload.key) == record
        assert [page async for page in metadata.repo.pages(record)] == upload.pages
        await metadata.repo.list(limit=10)
        await metadata.index.records(shared)
        async for _ in metadata.index.references(shared[0]):
            break
        async for _ in metadata.index.list():
            break
        key = block_key(f"d{rounds}-{number}")
        damaged = Upload.of([key], f"d{rounds}-{number}")
        await metadata.put(damaged)
        await metadata.index.mark_wanted_back(key, 1)
        await metadata.index.mark_damaged(key, 1)
        await metadata.put(damaged)
        await metadata.repo.delete(damaged.key)
        await metadata.repo.undelete(damaged.key)
        await metadata.index.end(await metadata.session(block_keys(10, f"e{rounds}-{number}")))
        await metadata.index.owner(session)
        await metadata.repo.totals()


async def test_tables_are_never_read_through() -> None:
    async with fresh_schema() as schema:
        async with opened(schema) as (database,):  # its connections report what they did when they are closed
            await use(database, 12)
            await use(database, 40)
        before = await rows_scanned(schema)
        assert set(before) == set(TABLES)
        assert before == dict.fromkeys(TABLES, 0)
        async with opened(schema) as (database,):
            async with database.unpooled("test") as connection:
                await connection.execute("ANALYZE")
            await rows_scanned(schema)
        before = await rows_scanned(schema)
        async with opened(schema) as (database,):
            await use(database, 13)
        assert await rows_scanned(schema) == before
