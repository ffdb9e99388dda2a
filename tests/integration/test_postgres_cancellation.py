"""Cancelled calls on PostgreSQL: whole or not at all, and the connection is as good as before."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.metadata.audit import audit
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

pytestmark = pytest.mark.postgres


@pytest.fixture
async def database() -> AsyncIterator[PgDatabase]:
    schema = f"cancel_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    made = PgDatabase(server().config(schema, max_connections=1))
    yield made
    await made.aclose()
    await drop_schema(server(), schema)


async def test_results_of_a_cancelled_call_go_to_nobody_else(database: PgDatabase) -> None:
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    draw = random.Random(5)
    cancelled = 0
    for number in range(150):
        upload = Upload.of(block_keys(1 + number % 20, f"{number}"), f"{number}")
        task = asyncio.ensure_future(metadata.put(upload))
        await asyncio.sleep(draw.uniform(0, 0.008))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
        assert await database.fetch("test", "SELECT %b::int, 'x'", [number]) == [(number, "x")]
        shown = [record.key for record in await metadata.repo.list()]
        assert await database.fetch("test", "SELECT %b::int", [number]) == [(number,)]
        assert [record.key for record in await metadata.repo.list()] == shown, "a cancelled call happened afterwards"
    assert cancelled > 20
    assert [finding async for finding in audit(PgMetadataRows(database))] == []


async def test_call_that_waits_for_a_lock_can_be_left_at_once(database: PgDatabase) -> None:
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    upload = Upload.of(block_keys(2), "one")
    await metadata.put(upload)
    async with database.unpooled("test") as other, other.transaction():
        await other.execute("SELECT FROM blobs FOR UPDATE")
        task = asyncio.ensure_future(metadata.repo.delete(upload.key))
        await asyncio.sleep(0.2)
        assert not task.done()
        task.cancel()
        async with asyncio.timeout(2):
            with pytest.raises(asyncio.CancelledError):
                await task
    assert (await metadata.repo.get(upload.key)).key == upload.key
    assert await metadata.repo.delete(upload.key) is True
