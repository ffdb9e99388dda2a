"""What tests of the object stores on PostgreSQL share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from psycopg import AsyncConnection

from graviton.backends.postgres._scripts import Script
from graviton.backends.postgres.config import PgConfig
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.backends.postgres.objects import PgMutableObjectStore, PgObjectConfig
from graviton.core.clock import Clock
from graviton.core.locators import Locator
from graviton.ports.kv import Durability
from graviton.ports.objects import ImmutableObjectStore
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import PgServer, server

__all__ = ["ForgetfulDatabase", "Place", "a_place", "at", "read"]

_T = TypeVar("_T")


class ForgetfulDatabase(PgDatabase):
    """Every transaction is committed, its reply is lost, and it is repeated, or told that. Nothing else happens in
    between: whoever puts an object that is replaced meanwhile may be told Conflict."""

    def __init__(self, config: PgConfig) -> None:
        super().__init__(config)
        self._alone = asyncio.Lock()

    async def run(
        self,
        operation: str,
        script: Callable[[], Script[_T]],
        durability: Durability = Durability.FULL,
        *,
        repeats_lost: bool = True,
    ) -> _T:
        async with self._alone:
            await super().run(operation, script, durability, repeats_lost=repeats_lost)
            if not repeats_lost:
                raise LostReply("the reply was lost", operation=operation)
            return await super().run(operation, script, durability)


class Place:
    """A schema of one test."""

    def __init__(self, host: PgServer, schema: str) -> None:
        self.server, self.schema = host, schema
        self._stores: list[PgMutableObjectStore] = []

    def database(self, clock: Clock | None = None, **settings: int | float) -> PgDatabase:
        return PgDatabase(self.server.config(self.schema, **settings), clock=clock)

    def store(
        self, part_bytes: int = 1000, database: PgDatabase | None = None, lease_seconds: float = 3600.0
    ) -> PgMutableObjectStore:
        """A store with connections of its own, closed with the test."""
        config = PgObjectConfig(part_bytes=part_bytes, lease_seconds=lease_seconds)
        store = PgMutableObjectStore(database or self.database(), config)
        self._stores.append(store)
        return store

    async def ask(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """What a statement of somebody else finds, on a connection of its own."""
        conninfo = self.server.config(self.schema, application_name="asking").conninfo()  # type: ignore[arg-type]
        async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
            cursor = await connection.execute(sql.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def contents(self) -> list[tuple[int, int, int]]:
        """State, size and number of parts of every content."""
        return await self.ask(
            "SELECT state, size, (SELECT count(*) FROM object_parts WHERE content_id = id) FROM object_contents"
            " ORDER BY state, size"
        )

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


@asynccontextmanager
async def a_place(host: PgServer | None = None) -> AsyncIterator[Place]:
    """A schema with all tables, removed afterwards."""
    place = Place(host or server(), f"objects_{secrets.token_hex(6)}")
    await make_schema(place.server, place.schema)
    try:
        yield place
    finally:
        await place.aclose()
        await drop_schema(place.server, place.schema)


def at(path: str) -> Locator:
    return Locator("pg", "default", path)


async def read(store: ImmutableObjectStore, path: str) -> bytes:
    return b"".join([piece async for piece in await store.get(at(path))])
