"""What a process believes about a server that has crashed since: numbers of transactions, namespaces that are there."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from psycopg import AsyncConnection, OperationalError

from graviton.backends.postgres._outcomes import NUMBER, told_apart
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.concurrency.executors import in_own_thread
from graviton.ports.kv import Durability
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
async def opened(host: PgServer) -> AsyncIterator[PgDatabase]:
    database = PgDatabase(host.config(SCHEMA))
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
