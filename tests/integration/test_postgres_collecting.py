"""Collecting on PostgreSQL: what is left in the tables, and many at work at the same time."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from functools import partial

import pytest

from graviton.backends.postgres import _endings
from graviton.backends.postgres._endings import drop_some_claims, end_session
from graviton.backends.postgres._releasing import remove_empty
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.metadata.audit import audit
from graviton.metadata.releasing import Due
from graviton.ports.block_index import OWNER_KEPT_SECONDS, BlockState
from graviton.testing.conformance.checks import gather
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys
from graviton.testing.fake_clock import FakeClock
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

pytestmark = pytest.mark.postgres

UNHELD = """
SELECT count(*) FROM blocks b WHERE state <> 3 AND NOT EXISTS (SELECT FROM refs WHERE block_id = b.id)
    AND NOT EXISTS (SELECT FROM candidates WHERE block_id = b.id)
"""


@pytest.fixture
async def database() -> AsyncIterator[PgDatabase]:
    schema = f"collecting_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    made = PgDatabase(server().config(schema), clock=FakeClock())
    yield made
    await made.aclose()
    await drop_schema(server(), schema)


async def collect(metadata: Metadata) -> None:
    """A whole collection, of everything that is gone."""
    async for _ in metadata.index.end_expired():
        pass
    async for _ in metadata.index.release(0.0):
        pass
    more = True
    while more:
        more = (await metadata.index.condemn(secrets.token_hex(16))).more


async def rows_of(database: PgDatabase) -> dict[str, int]:
    """How many rows the tables have that are not empty."""
    names = ("owners", "refs", "pages", "holders", "blobs", "candidates")
    found = {name: (await database.fetch("test", f"SELECT count(*) FROM {name}"))[0][0] for name in names}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("claims", [1, 3, 1000])
@pytest.mark.parametrize("pages", [1, 16])
async def test_nothing_of_what_is_gone_stays_behind(
    database: PgDatabase, claims: int, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_endings, "MAX_DROP", claims)
    monkeypatch.setattr(_endings, "MAX_PAGES", pages)
    clock = database.clock
    assert isinstance(clock, FakeClock)
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    for number in range(6):
        upload = Upload.of(block_keys(2 + number), f"{number}")
        await metadata.put(upload, domain="d" * (number % 2))
        await metadata.put(upload, "another", domain="d" * (number % 2))
        for holder in ("", "another"):
            await metadata.repo.delete(upload.key, holder, "d" * (number % 2))
    await metadata.index.open([block_keys(9, "open"), [], block_keys(1)])
    clock.advance(OWNER_KEPT_SECONDS + 1)
    await collect(metadata)
    assert (await rows_of(database)).keys() == {"owners"}, "sessions have just been ended"
    clock.advance(OWNER_KEPT_SECONDS)
    await collect(metadata)
    assert await rows_of(database) == {}
    assert [finding async for finding in audit(PgMetadataRows(database))] == []
    states = {record.state for domain in ("", "d") async for record in metadata.index.list(domain)}
    assert states == {BlockState.CONDEMNED}


async def test_owner_that_another_collector_is_still_at_is_not_removed(database: PgDatabase) -> None:
    """It was passed over when its claims were taken away, because the other one had it locked."""
    clock = database.clock
    assert isinstance(clock, FakeClock)
    index = PgBlockIndex(database)
    empty, held = [one.session for one in await index.open([[], block_keys(3)])]
    for session in (empty, held):
        await database.run("test", lambda session=session: end_session(session, clock.now_ns()))  # type: ignore[misc]
    due = Due(clock.now_ns(), clock.now_ns())
    for session, limit in ((empty, 1), (held, 2)):
        drop = partial(drop_some_claims, session, limit)
        await database.run("test", drop)
    assert await database.run("test", lambda: remove_empty([empty, held], due)) == 1
    assert await index.owner(empty) is None
    assert await index.owner(held) is not None


async def test_many_put_delete_and_collect_at_once(database: PgDatabase) -> None:
    """Everybody wants the same few blocks and blobs, and nothing that was acknowledged is lost."""
    clock = database.clock
    assert isinstance(clock, FakeClock)
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    draw = random.Random(5)
    uploads = [Upload.of(block_keys(8)[place : place + 3], f"{place}") for place in range(5)]
    kept = Upload.of(block_keys(8), "kept")
    done = asyncio.Event()

    async def work() -> None:
        for _ in range(60):
            upload = draw.choice(uploads)
            match draw.randrange(6):
                case 0 | 1 | 2:
                    await metadata.put(upload)
                case 3:
                    await metadata.repo.delete(upload.key)
                case 4:
                    await metadata.repo.undelete(upload.key)
                case 5:
                    await metadata.index.end(await metadata.session(upload.blocks))
            await metadata.put(kept)

    async def collect_always() -> None:
        while not done.is_set():
            clock.advance(OWNER_KEPT_SECONDS / 200)
            await collect(metadata)

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(collect_always())
        await gather(*(work() for _ in range(6)))
        done.set()
    assert [finding async for finding in audit(PgMetadataRows(database))] == []
    assert (await database.fetch("test", UNHELD))[0][0] == 0, "blocks that nobody will ever look at"
    assert kept.key in [record.key for record in await metadata.repo.list()]
    records = await metadata.index.records(kept.blocks)
    assert {record and record.state for record in records} == {BlockState.STORED}
