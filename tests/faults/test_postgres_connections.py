"""Connections that break at every message of every operation, servers that are killed, clients that freeze.

What counts: an operation that says it happened has happened, once; one whose reply was lost is told apart; and whatever
breaks, all rows fit together afterwards.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.concurrency.executors import in_own_thread
from graviton.errors import Conflict, InvalidInput
from graviton.metadata.audit import audit
from graviton.ports.block_index import OwnerState
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of
from tests.faults.harness.pg_proxy import BreakingProxy
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import PgServer, server

pytestmark = pytest.mark.skipif(bool(os.environ.get("GRAVITON_TEST_PG_URL")), reason="needs a server of its own")

OLD = Upload.of(block_keys(3, "old"), "old")


class Place:
    """A schema with one blob in it, the ports over a connection that may break, and over one that does not."""

    def __init__(self, broken: PgDatabase, straight: PgDatabase) -> None:
        self.database = broken
        self.ports = Metadata(PgBlockIndex(broken), PgBlobManifestRepo(broken))
        self.kv = PgKeyValueStore(broken)
        self.straight = straight
        self.look = Metadata(PgBlockIndex(straight), PgBlobManifestRepo(straight))
        self.rows = PgMetadataRows(straight)

    async def events(self, upload: Upload) -> list[str]:
        """What the outbox tells of a blob."""
        subject = upload.key.text
        rows = await self.straight.fetch("test", "SELECT kind FROM events WHERE subject = %b ORDER BY id", [subject])
        return [kind for (kind,) in rows]

    async def check(self) -> None:
        assert [finding async for finding in audit(self.rows)] == []


@asynccontextmanager
async def place(through: Path, of: PgServer) -> AsyncIterator[Place]:
    schema = f"broken_{secrets.token_hex(8)}"
    await make_schema(of, schema)
    straight = PgDatabase(of.config(schema))
    broken = PgDatabase(
        parse_address(f"postgresql://graviton@/postgres?host={through}&currentSchema={schema}", max_connections=2)
    )
    made = Place(broken, straight)
    await made.look.put(OLD)
    await made.kv.put("ns", b"key", b"before")
    await made.ports.repo.get(OLD.key)  # versions are looked at, the pool is open
    try:
        yield made
    finally:
        await broken.aclose()
        await straight.aclose()
        await drop_schema(of, schema)


Operation = Callable[[Place], Awaitable[None]]


async def put_new(world: Place) -> None:
    upload = Upload.of(block_keys(4, secrets.token_hex(4)), secrets.token_hex(4))
    before = await world.look.repo.totals()
    result = await world.ports.put(upload)
    assert result.created is True
    assert await world.look.repo.get(upload.key) == result.record
    after = await world.look.repo.totals()
    assert (after.blobs, after.blocks) == (before.blobs + 1, before.blocks + 4)
    assert await world.events(upload) == ["blob.committed"]


async def put_again(world: Place) -> None:
    before = await world.look.repo.totals()
    result = await world.ports.put(OLD, holder=f"h{secrets.token_hex(4)}")
    assert result.created is False
    assert await world.look.repo.totals() == before
    assert await world.events(OLD) == ["blob.committed"]


async def put_in_steps(world: Place) -> None:
    upload = Upload.of(block_keys(6, secrets.token_hex(4)), secrets.token_hex(4))
    session = await world.ports.session(upload.blocks[:3])
    claims = await world.ports.index.claim(session, upload.blocks)
    written = set(upload.blocks[:3]) | {claim.key for claim in claims if claim.must_write}
    assert written == set(upload.blocks), "a claim whose reply was lost must not be taken for stored"
    await world.ports.repo.add_pages(session, upload.pages, upload.blocks)
    await world.ports.repo.commit([commit_of(session, upload, pages=[], confirm=[])])
    assert (await world.look.repo.get(upload.key)).block_count == 6


async def delete_and_bring_back(world: Place) -> None:
    upload = Upload.of(block_keys(2, secrets.token_hex(4)), secrets.token_hex(4))
    await world.look.put(upload)
    before = await world.look.repo.totals()
    assert await world.ports.repo.delete(upload.key) is True
    assert upload.key not in [record.key for record in await world.look.repo.list()]
    assert (await world.look.repo.totals()).blobs == before.blobs - 1
    assert await world.ports.repo.undelete(upload.key) is True
    assert await world.look.repo.totals() == before
    assert await world.events(upload) == ["blob.committed", "blob.deleted", "blob.committed"]


async def end_a_session(world: Place) -> None:
    session = await world.ports.session(block_keys(3, secrets.token_hex(4)))
    await world.ports.index.end(session)
    record = await world.look.index.owner(session)
    # Nothing of a session is waited for on the disk before its commit: a server that crashes may forget all of it.
    assert record is None or record.state is OwnerState.ENDED


async def mark_a_block(world: Place) -> None:
    upload = Upload.of(block_keys(1, secrets.token_hex(4)), secrets.token_hex(4))
    await world.look.put(upload)  # durable, also when the server crashes
    (key,) = upload.blocks
    assert await world.ports.index.mark_damaged(key, 1) is True
    (record,) = await world.look.index.records([key])
    assert record is not None
    assert record.generation == 2
    subject = key.text
    assert await world.straight.fetch("test", "SELECT kind FROM events WHERE subject = %b", [subject]) == [
        ("block.damaged",)
    ]


async def change_a_key(world: Place) -> None:
    value = secrets.token_bytes(4)
    await world.kv.put("ns", b"key", value)
    assert await world.kv.get("ns", b"key") == value
    assert await world.kv.delete("ns", b"key") is True
    assert await world.kv.get("ns", b"key") is None


OPERATIONS = [put_new, put_again, put_in_steps, delete_and_bring_back, end_a_session, mark_a_block, change_a_key]


@pytest.mark.parametrize("delivered", [False, True], ids=["lost", "delivered"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_connection_cut_at_every_message(operation: Operation, delivered: bool, tmp_path: Path) -> None:
    shared = server()
    async with BreakingProxy(shared.folder, tmp_path) as proxy, place(tmp_path, shared) as world:
        message = 0
        while True:
            proxy.cut(message, delivered)
            await operation(world)
            if not proxy.was_cut:
                break
            message += 1
        assert message >= 10, "the proxy counts messages"
        await world.check()


@pytest.fixture(scope="module")
def own_server() -> AsyncIterator[PgServer]:
    made = PgServer(server().version)
    yield made
    made.remove()


@pytest.mark.parametrize("way", ["kill", "immediate", "fast"])
async def test_server_that_dies_and_comes_back_during_operations(own_server: PgServer, way: str) -> None:
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(place(own_server.folder, own_server)) for _ in OPERATIONS]
        done = asyncio.Event()
        finished = dict.fromkeys(OPERATIONS, 0)

        async def work(world: Place, operation: Operation) -> None:
            while not done.is_set():
                try:
                    await operation(world)
                except (Conflict, InvalidInput):
                    # A server that crashes forgets claims and pages of its last moments, which nobody waited for on the
                    # disk. Whoever made them is told that they are not there, and begins again.
                    if way == "fast":
                        raise
                else:
                    finished[operation] += 1

        tasks = [asyncio.create_task(work(*pair)) for pair in zip(worlds, OPERATIONS, strict=True)]
        for _ in range(3):
            await asyncio.sleep(0.2)
            if way == "kill":
                await in_own_thread(own_server.kill)
                await in_own_thread(own_server.start)
            else:
                await in_own_thread(own_server.restart, way)
        before = dict(finished)
        async with asyncio.timeout(60):
            while not all(finished[operation] > before[operation] for operation in OPERATIONS):
                await asyncio.sleep(0.1)
                for task in tasks:
                    if task.done():
                        task.result()
            done.set()
            await asyncio.gather(*tasks)
        for world in worlds:
            await world.check()


FROZEN = """
import psycopg, sys, time
connection = psycopg.connect(sys.argv[1])
connection.execute("SELECT FROM blobs FOR UPDATE")
connection.execute("SELECT FROM owners FOR UPDATE")
print("holding", flush=True)
time.sleep(600)
"""


async def test_frozen_client_inside_a_transaction_blocks_nobody_for_ever(tmp_path: Path) -> None:
    shared = server()
    async with place(shared.folder, shared) as world:
        config = shared.config(world.database.config.schema, idle_in_transaction_seconds=0.5)
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(FROZEN), config.conninfo()], stdout=subprocess.PIPE, text=True
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "holding"
            child.send_signal(signal.SIGSTOP)
            assert await asyncio.wait_for(world.ports.repo.delete(OLD.key), 30) is True
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        await world.check()
