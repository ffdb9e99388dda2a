"""What `PgDatabase` reports: operations, failures, tries, and how its connections are used."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.metrics import PgMetrics
from graviton.errors import Unavailable
from graviton.ports.kv import Transaction
from graviton.ports.metrics import MetricKeys, Series
from tests.faults.harness.pg_proxy import BreakingProxy
from tests.postgres_databases import fresh_schema
from tests.postgres_server import server

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(bool(os.environ.get("GRAVITON_TEST_PG_URL")), reason="needs a server of its own"),
]


class Measured:
    """A database with a registry, behind a proxy."""

    def __init__(self, database: PgDatabase, registry: InMemoryMetrics, proxy: BreakingProxy) -> None:
        self.database, self.proxy = database, proxy
        self.kv = PgKeyValueStore(database)
        self._registry = registry

    def count(self, name: MetricKeys, **labels: str) -> float:
        series = Series(name.value, tuple(sorted({"backend": "postgres", **labels}.items())))
        return self._registry.snapshot().counters.get(series, 0)

    def failures(self) -> dict[str, float]:
        """Failures by code."""
        counters = self._registry.snapshot().counters
        return {
            dict(one.labels)["code"]: count
            for one, count in counters.items()
            if one.name == MetricKeys.BACKEND_FAILURES.value
        }

    def observed(self, operation: str) -> int:
        series = Series(MetricKeys.BACKEND_OPERATION_SECONDS.value, (("backend", "postgres"), ("operation", operation)))
        return self._registry.snapshot().histograms[series].observations

    def connections(self) -> tuple[float, ...]:
        """Open, in use, waited for."""
        gauges = self._registry.snapshot().gauges
        labels = [(("backend", "postgres"), ("state", state)) for state in ("open", "in_use", "waiting")]
        return tuple(gauges[Series(MetricKeys.BACKEND_CONNECTIONS.value, one)] for one in labels)


@asynccontextmanager
async def measured(folder: Path, **settings: float) -> AsyncIterator[Measured]:
    registry = InMemoryMetrics()
    async with AsyncExitStack() as stack:
        schema = await stack.enter_async_context(fresh_schema())
        proxy = await stack.enter_async_context(BreakingProxy(server().folder, folder))
        address = f"postgresql://graviton@/postgres?host={folder}&currentSchema={schema}"
        database = PgDatabase(parse_address(address, max_connections=2, **settings), PgMetrics(registry))
        stack.push_async_callback(database.aclose)
        await database.fetch("test", "SELECT 1")
        yield Measured(database, registry, proxy)


async def test_connections_are_counted_while_they_are_used_and_afterwards(tmp_path: Path) -> None:
    async with measured(tmp_path) as it:
        assert it.connections() == (1, 0, 0)
        async with it.database.connection(), it.database.connection():
            third = asyncio.create_task(it.database.fetch("test", "SELECT 1"))
            await asyncio.sleep(0.05)
            assert it.connections() == (2, 2, 1)
        await third
        assert it.connections() == (2, 0, 0)


async def test_connections_of_blocking_code_are_counted_too(tmp_path: Path) -> None:
    async with measured(tmp_path) as it:
        is_in, may_go = threading.Event(), threading.Event()

        def fn(tx: Transaction) -> None:
            is_in.set()
            assert may_go.wait(30)

        task = asyncio.create_task(it.kv.transact(fn))
        while not is_in.is_set():
            await asyncio.sleep(0.01)
        assert it.connections() == (2, 1, 0)
        may_go.set()
        await task
        assert it.connections() == (2, 0, 0)
        await it.database.aclose()
        assert it.connections() == (0, 0, 0)


async def test_who_gets_no_connection_waits_no_more(tmp_path: Path) -> None:
    async with measured(tmp_path) as it, it.database.connection(), it.database.connection():
        third = asyncio.create_task(it.database.fetch("test", "SELECT 1"))
        await asyncio.sleep(0.05)
        third.cancel()
        await asyncio.wait([third])
        assert it.connections() == (2, 2, 0)


@pytest.mark.parametrize("operation", ["kv.get", "kv.put"], ids=["a-read", "a-write"])
async def test_tries_of_blocking_code_are_counted(tmp_path: Path, operation: str) -> None:
    async with measured(tmp_path) as it:
        await it.kv.put("ns", b"key", b"value")
        it.proxy.cut(0, delivered=False)
        if operation == "kv.put":
            await it.kv.put("ns", b"key", b"value")
        else:
            assert await it.kv.get("ns", b"key") == b"value"
        assert it.proxy.was_cut
        assert sum(it.count(MetricKeys.BACKEND_RETRIES, operation=name) for name in (operation, "kv.read")) == 1
        assert it.failures() == {}


async def test_lost_reply_that_the_caller_looks_into_is_a_try_and_no_failure(tmp_path: Path) -> None:
    def script() -> Script[None]:
        yield Last([Statement("SELECT 1")])

    async with measured(tmp_path) as it:
        it.proxy.cut(0, delivered=True)
        with pytest.raises(LostReply):
            await it.database.run("test.change", script, repeats_lost=False)
        assert it.failures() == {}
        assert it.count(MetricKeys.BACKEND_RETRIES, operation="test.change") == 1
        assert it.observed("test.change") == 1


async def test_failures_are_counted_by_code_and_timed(tmp_path: Path) -> None:
    async with measured(tmp_path, retry_seconds=0) as it:
        before = it.observed("test")
        it.proxy.cut(0, delivered=False)
        with pytest.raises(Unavailable) as failure:
            await it.database.fetch("test", "SELECT 1")
        assert it.failures() == {failure.value.code: 1}
        assert it.observed("test") == before + 1
        assert it.count(MetricKeys.BACKEND_OPERATIONS, operation="test") == before + 1
