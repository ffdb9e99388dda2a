"""What a process believes about a server that has crashed since: numbers of transactions, namespaces that are there,
what a session holds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import Any

import pytest
from psycopg import AsyncConnection, OperationalError

from graviton.backends.postgres._outcomes import NUMBER, told_apart
from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.concurrency.executors import in_own_thread
from graviton.core.manifests import ManifestPage
from graviton.errors import Conflict
from graviton.metadata.audit import audit
from graviton.metadata.preparing import SEAL_PAGES
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import Durability
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of
from tests.postgres_schemas import make_schema
from tests.postgres_server import PgServer, server

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(bool(os.environ.get("GRAVITON_TEST_PG_URL")), reason="needs a server of its own"),
]

SCHEMA = "crashes"


@pytest.fixture
async def host() -> AsyncIterator[PgServer]:
    """A server that does not write its log by itself: what nobody waited for is lost when it crashes."""
    made = PgServer(server().version, "wal_writer_delay = 10s\nautovacuum = off\n")
    try:
        await make_schema(made, SCHEMA)
        yield made
    finally:
        made.remove()


@asynccontextmanager
async def opened(host: PgServer, kind: type[PgDatabase] = PgDatabase) -> AsyncIterator[Any]:
    database = kind(host.config(SCHEMA))
    try:
        yield database
    finally:
        await database.aclose()


async def connected(host: PgServer) -> AsyncConnection:
    return await AsyncConnection.connect(host.config(SCHEMA).conninfo(), autocommit=True)


async def crash(host: PgServer, way: str, pid: int) -> None:
    """Kill the server, or one process of it, and wait until it answers."""
    if way == "server":
        await in_own_thread(host.kill)
        await in_own_thread(host.start)
        return
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.2)
            try:
                await (await connected(host)).close()
            except OperationalError:
                continue
            return


@pytest.mark.parametrize("way", ["server", "process"])
async def test_number_that_a_crashed_server_gave_again_tells_nothing(host: PgServer, way: str) -> None:
    async with opened(host) as database:
        await database.fetch("test", "SELECT 1")
        connection = await connected(host)
        await connection.execute("BEGIN")
        cursor = await connection.execute(f"INSERT INTO domains (name) VALUES ('x') RETURNING {NUMBER}")
        ((number,),) = await cursor.fetchall()
        await crash(host, way, connection.info.backend_pid)
        await connection.close()
        calls = 0

        async def once() -> str:
            nonlocal calls
            calls += 1
            if calls % 2 == 0:
                return "again"
            lost = LostReply("the reply was lost", operation="kv.put")
            lost.transaction = number
            raise lost

        async with await connected(host) as other:
            given = 0
            while given < int(number.split()[0]):
                cursor = await other.execute("SELECT pg_current_xact_id()::text::bigint")
                ((given,),) = await cursor.fetchall()
            cursor = await other.execute("SELECT pg_xact_status(%s::text::xid8)", [number.split()[0]])
            assert await cursor.fetchall() == [("committed",)], "somebody else's"
        with pytest.raises(LostReply):
            await told_apart(database, once, lambda: "first", repeats=False)
        calls = 0
        assert await told_apart(database, once, lambda: "first", repeats=True) == "first"
        assert calls == 2


async def test_server_that_was_restarted_in_order_still_knows(host: PgServer) -> None:
    async with opened(host) as database:
        await database.fetch("test", "SELECT 1")
        async with await connected(host) as connection:
            cursor = await connection.execute(f"INSERT INTO domains (name) VALUES ('x') RETURNING {NUMBER}")
            ((number,),) = await cursor.fetchall()
        await in_own_thread(host.restart, "fast")

        async def once() -> str:
            lost = LostReply("the reply was lost", operation="kv.put")
            lost.transaction = number
            raise lost

        assert await told_apart(database, once, lambda: "first", repeats=False) == "first"


async def test_namespace_that_was_lost_in_a_crash_is_made_again(host: PgServer) -> None:
    """Or a backup, which asks for the namespaces there are, would be without it."""
    kv = PgKeyValueStore(PgDatabase(host.config(SCHEMA)))
    await kv.put("kept", b"k", b"1")
    await kv.transact(lambda tx: tx.put("fresh", b"k", b"1"), Durability.RELAXED)
    assert await kv.namespaces() == ["fresh", "kept"]
    await in_own_thread(host.kill)
    await in_own_thread(host.start)
    assert await kv.namespaces() == ["kept"], "nobody waited for the other one"
    await kv.put("fresh", b"k", b"2")
    assert await kv.get("fresh", b"k") == b"2"
    assert await kv.namespaces() == ["fresh", "kept"]
    await kv.aclose()


# What a session was told before the crash, and what is left of it.


async def reach_the_disk(database: PgDatabase) -> None:
    """Whatever was committed until now: the log is written in order."""
    await PgKeyValueStore(database).put("test", b"k", b"v")


async def sound(database: PgDatabase, upload: Upload) -> None:
    """No law between rows is broken, and the blob is not there."""
    assert [finding async for finding in audit(PgMetadataRows(database))] == []
    assert upload.key not in [record.key for record in await PgBlobManifestRepo(database).list()]


class CrashingDatabase(PgDatabase):
    """Its server crashes after some transactions that seal pages, and forgets the last of them, and nothing else."""

    host: PgServer | None = None
    seals = 0

    async def run(self, operation: str, *rest: Any, **more: Any) -> Any:
        if self.host is None or operation != "manifests.seal":
            return await super().run(operation, *rest, **more)
        await reach_the_disk(self)
        result = await super().run(operation, *rest, **more)
        self.seals -= 1
        if not self.seals:
            await crash(self.host, "server", 0)
            self.host = None
        return result


@pytest.mark.parametrize("seals", [1, 2], ids=["before the next seals", "before the commit"])
async def test_commit_whose_seals_were_lost_in_a_crash_is_refused_until_they_are_there(
    host: PgServer, seals: int
) -> None:
    """Or a blob is there whose pages nobody can read."""
    async with opened(host, CrashingDatabase) as database:
        metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
        upload = Upload.of(block_keys(SEAL_PAGES + 2))
        offsets = accumulate((key.size for key in upload.blocks), initial=0)
        pages = [ManifestPage(number, at, [key]) for number, (at, key) in enumerate(zip(offsets, upload.blocks))]  # noqa: B905
        session = await metadata.session(upload.blocks)
        await metadata.repo.add_pages(session, pages, upload.blocks)
        database.host, database.seals = host, seals
        commit = commit_of(session, upload, pages=[], confirm=[])
        with pytest.raises(Conflict):
            await metadata.repo.commit([commit])
        assert database.host is None, "it crashed"
        await sound(database, upload)
        [result] = await metadata.repo.commit([commit])
        assert [page async for page in metadata.repo.pages(result.record)] == pages


@pytest.mark.parametrize("way", ["server", "process"])
@pytest.mark.parametrize("by", ["commit", "add_pages"])
async def test_claims_on_known_blocks_that_were_lost_in_a_crash_make_no_blob(host: PgServer, way: str, by: str) -> None:
    """Nothing else tells that they are gone: what was to be written would be unconfirmed."""
    async with opened(host) as database:
        metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
        known = Upload.of(block_keys(6), "known")
        await metadata.put(known)
        upload = Upload.of(known.blocks, "new")
        session = await metadata.session(upload.blocks[:3])
        await reach_the_disk(database)
        claims = await metadata.index.claim(session, upload.blocks[3:])
        assert not any(claim.must_write for claim in claims)
        async with await connected(host) as connection:
            pid = connection.info.backend_pid
            await crash(host, way, pid)
        with pytest.raises(Conflict):
            if by == "add_pages":
                await metadata.repo.add_pages(session, upload.pages)
            else:
                await metadata.repo.commit([commit_of(session, upload, confirm=[])])
        await sound(database, upload)
        owner = await metadata.index.owner(session)
        assert owner is not None
        assert owner.state is OwnerState.OPEN, "it was there before the crash"
        await metadata.index.claim(session, upload.blocks[3:])
        await metadata.repo.add_pages(session, upload.pages)
        [result] = await metadata.repo.commit([commit_of(session, upload, pages=[], confirm=[])])
        assert result.created
        assert [finding async for finding in audit(PgMetadataRows(database))] == []


async def test_pages_that_were_lost_in_a_crash_are_missed(host: PgServer) -> None:
    async with opened(host) as database:
        metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
        known = Upload.of(block_keys(6), "known")
        await metadata.put(known)
        upload = Upload.of(known.blocks, "new")
        session = await metadata.session(upload.blocks)
        await reach_the_disk(database)
        await metadata.repo.add_pages(session, upload.pages)
        await crash(host, "server", 0)
        with pytest.raises(Conflict):
            await metadata.repo.commit([commit_of(session, upload, pages=[], confirm=[])])
        await sound(database, upload)
