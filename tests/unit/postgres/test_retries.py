"""What may pass is tried again, for as long as the configuration says, and then told with a typed error."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from graviton.backends.postgres import _blocking
from graviton.backends.postgres import database as database_module
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import RacedError
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.concurrency.executors import in_own_thread
from graviton.errors import ConfigError, Conflict, Retry, Unavailable
from graviton.ports.kv import Transaction
from tests.postgres_databases import Watched, fresh_schema, opened
from tests.postgres_schemas import make_schema
from tests.postgres_server import PgServer, server

pytestmark = pytest.mark.postgres

SCHEMA = "retries"

SLACK_SECONDS = 5.0
"""More than the last try takes, on a machine that is busy."""


@pytest.fixture
async def database() -> AsyncIterator[Watched]:
    async with fresh_schema() as schema, opened(schema, retry_seconds=0.5) as (made,):
        yield made


# For ever -------------------------------------------------------------------------------------------------------------


async def test_race_that_is_always_lost_ends_with_the_budget(database: Watched) -> None:
    tries = 0

    def script() -> Script[None]:
        nonlocal tries
        tries += 1
        yield [Statement("SELECT 1")]
        raise RacedError("somebody else")

    began = time.monotonic()
    with pytest.raises(Conflict, match="all the time: somebody else") as told:
        await database.run("test.race", script)
    assert 0.5 <= time.monotonic() - began < 0.5 + SLACK_SECONDS
    assert told.value.retry is Retry.EXHAUSTED
    assert told.value.operation == "test.race"
    assert tries > 2


async def test_conflict_that_always_comes_back_ends_with_the_budget(database: Watched) -> None:
    """Each try of ours reads what somebody else changes before it commits."""
    kv, tries = PgKeyValueStore(database), 0
    await kv.put("ns", b"k", b"0")
    loop = asyncio.get_running_loop()

    async def change() -> None:
        async with database.connection() as connection:
            await connection.execute("UPDATE kv SET value = value || 'x'")

    def read_and_write(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        tx.get("ns", b"k")
        asyncio.run_coroutine_threadsafe(change(), loop).result(10)
        tx.put("ns", b"k", b"1")

    began = time.monotonic()
    with pytest.raises(Conflict) as told:
        await kv.transact(read_and_write)
    assert 0.5 <= time.monotonic() - began < 0.5 + SLACK_SECONDS
    assert told.value.retry is Retry.EXHAUSTED
    assert tries > 2


async def test_what_cannot_pass_is_not_tried_again(database: Watched) -> None:
    tries = 0

    def script() -> Script[None]:
        nonlocal tries
        tries += 1
        yield [Statement("SELECT * FROM nothing_like_that")]

    with pytest.raises(ConfigError) as told:
        await database.run("test.unknown", script)
    assert tries == 1
    assert told.value.retry is not Retry.EXHAUSTED


# Deadlocks ------------------------------------------------------------------------------------------------------------


async def test_deadlock_is_resolved_and_both_come_through() -> None:
    async with fresh_schema() as schema:
        config = server().config(schema, "-c deadlock_timeout=20ms", retry_seconds=20)
        database, tries = PgDatabase(config), 0
        await database.run("test.make", _make_domains)

        def lock(first: str, second: str) -> Script[None]:
            nonlocal tries
            tries += 1
            rename = "UPDATE domains SET name = name || %b WHERE starts_with(name, %b)"
            # Asleep it holds the lock of its first row, until the other one has that of the second.
            yield [Statement(rename, ["x", first]), Statement("SELECT pg_sleep(0.3)")]
            yield [Statement(rename, ["x", second])]

        try:
            await asyncio.gather(
                database.run("test.lock", lambda: lock("a", "b")), database.run("test.lock", lambda: lock("b", "a"))
            )
            names = await database.fetch("test", "SELECT name FROM domains WHERE name <> '' ORDER BY name")
            assert names == [("axx",), ("bxx",)], "both happened, each once"
            assert tries > 2, "the server ended one of them"
        finally:
            await database.aclose()


def _make_domains() -> Script[None]:
    yield Last([Statement("INSERT INTO domains (name) VALUES ('a'), ('b')")])


# A server that is down ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> Iterator[PgServer]:
    if os.environ.get("GRAVITON_TEST_PG_URL"):
        pytest.skip("needs a server of its own")
    made = PgServer(server().version)
    try:
        asyncio.run(make_schema(made, SCHEMA))
        yield made
    finally:
        made.remove()


Call = Callable[[PgDatabase], Awaitable[object]]


def _one() -> Script[int]:
    (found,) = yield [Statement("SELECT 1")]
    return int(found.rows[0][0])


CALLS: dict[str, Call] = {
    "run": lambda database: database.run("test.run", _one),
    "fetch": lambda database: database.fetch("test.fetch", "SELECT 1"),
    "fetch_all": lambda database: database.fetch_all("test.fetch_all", [Statement("SELECT 1")] * 2),
    "read": lambda database: PgKeyValueStore(database).get("ns", b"k"),
    "transact": lambda database: PgKeyValueStore(database).put("ns", b"k", b"v"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_server_that_is_down_is_told_when_the_budget_is_used_up(
    host: PgServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try waits for a connection that long, so the last one may end that much after the budget. When the server is
    back, so are we, however long it was away: the pool must not have got used to waiting."""
    call, wait_seconds = CALLS[name], 1.0
    monkeypatch.setattr(database_module, "_POOL_WAIT_SECONDS", wait_seconds)
    monkeypatch.setattr(_blocking, "_POOL_WAIT_SECONDS", wait_seconds)
    database = PgDatabase(host.config(SCHEMA, retry_seconds=1))
    try:
        await call(database)
        await in_own_thread(host.stop)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer") as told:
            await call(database)
        assert 1 <= time.monotonic() - began < 1 + wait_seconds + SLACK_SECONDS
        assert told.value.retry is Retry.EXHAUSTED
        assert told.value.subject == database.config.where
        await asyncio.sleep(1.5 * wait_seconds)
        await in_own_thread(host.start)
        await call(database)
    finally:
        await database.aclose()


async def test_server_that_is_down_at_the_first_call_is_told_at_once(host: PgServer) -> None:
    await in_own_thread(host.stop)
    try:
        for call in CALLS.values():
            database = PgDatabase(host.config(SCHEMA, retry_seconds=30))
            began = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                await call(database)
            assert time.monotonic() - began < SLACK_SECONDS
            await database.aclose()
    finally:
        await in_own_thread(host.start)


@pytest.mark.parametrize("name", CALLS)
async def test_server_that_comes_back_within_the_budget_is_waited_for(host: PgServer, name: str) -> None:
    call = CALLS[name]
    database = PgDatabase(host.config(SCHEMA, retry_seconds=30))
    try:
        await call(database)
        await in_own_thread(host.stop)
        waiting = asyncio.ensure_future(call(database))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await in_own_thread(host.start)
        await asyncio.wait_for(waiting, 30)
    finally:
        await database.aclose()
