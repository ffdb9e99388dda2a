"""Clients that freeze at any point of what they do: whoever waits for them ends them, and goes on.

A frozen client says nothing and closes nothing, and no time-out of the server ends one of ours (`_waiting`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.metadata.audit import audit
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys
from tests.faults.harness.pg_frozen import HOLDER, upload_of
from tests.faults.harness.pg_proxy import BreakingProxy
from tests.postgres_databases import fresh_schema
from tests.postgres_server import server

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(bool(os.environ.get("GRAVITON_TEST_PG_URL")), reason="needs a server of its own"),
]

SILENT_SECONDS = 0.6
"""For how long a client may say nothing."""

PATIENCE_SECONDS = 40
"""For all who wait to come through: two seconds on a machine that has time, and less than a statement may wait."""

STEP = 1 if os.environ.get("FAULTS_REACH") == "long" else 5
"""Every n-th message."""

AT_ONCE = 40
"""Frozen clients at a time, each with connections of its own."""

IN_A_PIPELINE = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead'"


class Place:
    """A database, and the ports over it."""

    def __init__(self, database: PgDatabase) -> None:
        self.database = database
        self.ports = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
        self.kv = PgKeyValueStore(database)

    async def work(self, upload: Upload) -> None:
        """Changes of one blob and one key: transactions in pipelines, and one of blocking code. The namespace is one of
        its own: a client that is to be frozen later would wait for ever for one that is frozen while it makes it."""
        await self.ports.put(upload, holder="another")
        await self.ports.repo.delete(upload.key, "another")
        await self.kv.put(f"ns_{upload.key.digest.hex[:16]}", upload.key.to_bytes(), b"value")

    async def check(self) -> None:
        assert [finding async for finding in audit(PgMetadataRows(self.database))] == []


@asynccontextmanager
async def straight() -> AsyncIterator[tuple[Place, str]]:
    async with fresh_schema() as schema:
        database = PgDatabase(server().config(schema, idle_in_transaction_seconds=SILENT_SECONDS))
        try:
            yield Place(database), schema
        finally:
            await database.aclose()


class Frozen:
    """A client whose connections a proxy holds up."""

    def __init__(self, folder: Path, schema: str) -> None:
        folder.mkdir()
        options = quote(f"-c idle_in_transaction_session_timeout={SILENT_SECONDS * 1000:.0f}ms")
        config = parse_address(
            f"postgresql://graviton@/postgres?host={folder}&currentSchema={schema}&options={options}",
            idle_in_transaction_seconds=1000,  # by which it looks for others that are frozen: it is frozen itself
            retry_seconds=0,
        )
        self.proxy = BreakingProxy(server().folder, folder)
        self.place = Place(PgDatabase(config))

    async def freeze(self, message: int, upload: Upload) -> bool:
        """Work until the n-th message; whether there was one."""
        await self.place.ports.repo.get(upload.key)  # connected, versions looked at
        self.proxy.stall(message)
        self._task = asyncio.create_task(self.place.work(upload))
        while not (self.proxy.was_cut or self._task.done()):
            await asyncio.sleep(0.001)
        return self.proxy.was_cut

    async def end(self) -> None:
        """Called when the proxy has closed its connections."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.place.database.aclose()


async def test_client_frozen_at_any_message_blocks_nobody_for_long(tmp_path: Path) -> None:
    """Every 5th, and in the long form every one."""
    async with straight() as (others, schema):
        first, in_pipelines, was_frozen = 0, 0, True
        while was_frozen:
            messages = range(first, first + AT_ONCE * STEP, STEP)
            uploads = [Upload.of(block_keys(3, f"{message}"), f"{message}") for message in messages]
            await asyncio.gather(*map(others.ports.put, uploads))
            clients = [Frozen(tmp_path / f"{message}", schema) for message in messages]
            async with AsyncExitStack() as proxies:
                for message, client, upload in zip(messages, clients, uploads, strict=True):
                    await proxies.enter_async_context(client.proxy)
                    was_frozen = await client.freeze(message, upload)
                [(count,)] = await others.database.fetch("test", IN_A_PIPELINE)
                in_pipelines += count
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await asyncio.gather(*map(others.work, uploads))
            await asyncio.gather(*(client.end() for client in clients))
            first += AT_ONCE * STEP
        assert in_pipelines * STEP > 50, "clients were frozen where no time-out of the server ends them"
        await others.check()


async def test_processes_stopped_within_their_transactions_block_nobody_for_long_and_go_on() -> None:
    statements = range(1, 15)  # of which a put has 15
    uploads = [upload_of(statement) for statement in statements]
    async with straight() as (others, schema):
        await asyncio.gather(*map(others.ports.put, uploads))
        children = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.harness.pg_frozen",
            server().url(schema, f"-c idle_in_transaction_session_timeout={SILENT_SECONDS * 1000:.0f}ms"),
            *map(str, statements),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert children.stdout is not None
        stopped = [int((await children.stdout.readline()).split()[1]) for _ in statements]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(*map(others.work, uploads))
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        _, errors = await children.communicate()
        assert children.returncode == 0, errors.decode()
        rows = await others.database.fetch("test", "SELECT count(*) FROM holders WHERE name = %b", [HOLDER])
        assert rows == [(len(statements),)], "they found out, and put their blobs after all"
        await others.check()


IDLE = """
import psycopg, sys, time
connection = psycopg.connect(sys.argv[1])
connection.execute("SELECT FROM blobs FOR UPDATE")
connection.execute("SELECT FROM owners FOR UPDATE")
print("holding", flush=True)
time.sleep(600)
"""


async def test_blocking_client_frozen_inside_a_transaction_is_ended_by_the_server() -> None:
    upload = Upload.of(block_keys(3))
    async with straight() as (others, schema):
        await others.ports.put(upload)
        config = server().config(schema, idle_in_transaction_seconds=SILENT_SECONDS)
        # Whoever waits here looks for nobody.
        waiting = Place(PgDatabase(server().config(schema, idle_in_transaction_seconds=1000)))
        child = subprocess.Popen([sys.executable, "-c", IDLE, config.conninfo()], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "holding"
            child.send_signal(signal.SIGSTOP)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await waiting.ports.repo.delete(upload.key) is True
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
            await waiting.database.aclose()
        await others.check()
