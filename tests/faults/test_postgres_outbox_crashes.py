"""Followers of events over servers that crash: what was committed is told, whatever the server forgets."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.outbox import PgOutbox
from graviton.concurrency.executors import in_own_thread
from graviton.errors import Conflict
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys
from tests.postgres_schemas import make_schema
from tests.postgres_server import PgServer, server

pytestmark = pytest.mark.skipif(bool(os.environ.get("GRAVITON_TEST_PG_URL")), reason="needs a server of its own")


@pytest.fixture
async def own_server() -> AsyncIterator[PgServer]:
    # Nothing is written out that nobody waits for: what may be forgotten, is.
    made = PgServer(server().version, "wal_writer_delay = 10s\nautovacuum = off\n")
    yield made
    made.remove()


async def made_database(own_server: PgServer) -> PgDatabase:
    schema = f"crash_{secrets.token_hex(8)}"
    await make_schema(own_server, schema)
    return PgDatabase(own_server.config(schema))


async def test_transactions_that_a_crash_forgets_do_not_hide_those_that_get_their_numbers(own_server: PgServer) -> None:
    database = await made_database(own_server)
    metadata, outbox = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database)), PgOutbox(database)
    await metadata.put(Upload.of(block_keys(1), "a"))
    async with database.connection() as connection:
        await connection.execute("SET synchronous_commit TO off")
        for number in range(300):
            await connection.execute("INSERT INTO kv_namespaces VALUES (%s)", [f"n{number}"])
        cursor = await connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        before = (await cursor.fetchone() or [0])[0]
    async with aclosing(outbox.follow()) as events:
        kept, _ = await anext(events)
    latest = await outbox.latest()
    await in_own_thread(own_server.kill)
    await in_own_thread(own_server.start)
    upload = Upload.of(block_keys(1), "b")
    await metadata.put(upload)
    rows = await database.fetch("test", "SELECT max(txid::text::bigint) FROM events")
    assert rows[0][0] < before, "it has a number that was in use before"
    for position in (kept, latest):
        async with aclosing(outbox.follow(position)) as events:
            _, event = await asyncio.wait_for(anext(events), 5)
            assert event.subject == upload.key.text
    await database.aclose()


async def test_follower_goes_on_over_crashes(own_server: PgServer) -> None:
    database = await made_database(own_server)
    metadata, outbox = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database)), PgOutbox(database, 0.2)
    committed: list[str] = []
    told: list[str] = []
    done = asyncio.Event()

    async def put(writer: int) -> None:
        number = 0
        while not done.is_set():
            number += 1
            upload = Upload.of(block_keys(2, f"{writer}/{number}"))
            try:
                await metadata.put(upload)
            except Conflict:  # its claims were forgotten
                continue
            committed.append(upload.key.text)

    async def follow() -> None:
        async with aclosing(outbox.follow()) as events:
            async for _, event in events:
                told.append(event.subject)

    following = asyncio.create_task(follow())
    writing = [asyncio.create_task(put(writer)) for writer in range(4)]
    for _ in range(3):
        await asyncio.sleep(0.3)
        await in_own_thread(own_server.kill)
        await in_own_thread(own_server.start)
    await asyncio.sleep(0.3)
    done.set()
    await asyncio.gather(*writing)
    async with asyncio.timeout(20):
        while not set(committed) <= set(told):
            assert not following.done(), following.exception()
            await asyncio.sleep(0.1)
    following.cancel()
    await asyncio.wait([following])
    assert len(told) == len(set(told))
    await database.aclose()
