"""The laws of the object stores over PostgreSQL, as a role with no more rights than they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from psycopg import AsyncConnection

from graviton.backends.postgres.config import PgConfig, parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.objects import PgImmutableObjectStore, PgMutableObjectStore, PgObjectConfig
from graviton.core.locators import Locator
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore
from graviton.testing.conformance.mutable_objects import MutableObjectStoreContract
from graviton.testing.conformance.objects import ImmutableObjectStoreContract
from tests.postgres_objects import ForgetfulDatabase
from tests.postgres_schemas import drop_schema, make_schema, schema_of
from tests.postgres_server import server

pytestmark = pytest.mark.postgres

_TABLES = ("objects", "object_contents", "object_parts")


class _OnPostgres(ImmutableObjectStoreContract):
    backend = "postgres"
    bucket = "default"

    async def set_up(self) -> None:
        schema = self.role = schema_of(self.space)
        await make_schema(server(), schema)
        await self.as_owner(f"CREATE ROLE {self.role} LOGIN PASSWORD 'of a test'")
        await self.as_owner(f"GRANT USAGE ON SCHEMA {schema} TO {self.role}")
        await self.as_owner(f"GRANT SELECT ON {schema}.migrations TO {self.role}")
        for table in _TABLES:
            await self.as_owner(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.{table} TO {self.role}")

    async def tear_down(self) -> None:
        await drop_schema(server(), schema_of(self.space))
        await self.as_owner(f"DROP ROLE {self.role}")

    async def as_owner(self, statement: str) -> list[tuple[object, ...]]:
        conninfo = server().config(schema_of(self.space)).conninfo()
        async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
            cursor = await connection.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []

    def database(self) -> PgDatabase:
        return PgDatabase(self.place())

    def place(self) -> PgConfig:
        return parse_address(server().url(schema_of(self.space)), self.role, "of a test")

    def locator(self, path: str) -> Locator:
        return Locator("pg", self.bucket, path)

    async def break_backend(self, store: ImmutableObjectStore) -> None:
        schema = schema_of(self.space)
        await self.as_owner(f"ALTER TABLE {schema}.objects RENAME TO elsewhere")


class TestPgImmutableObjectStore(_OnPostgres):
    implementation = PgImmutableObjectStore

    def make_store(self) -> PgImmutableObjectStore:
        return PgImmutableObjectStore(self.database())

    async def fill(self, store: ImmutableObjectStore, objects: Mapping[str, bytes]) -> None:
        writer = PgMutableObjectStore(self.database())
        for path, data in objects.items():
            await writer.put(self.locator(path), data)
        await writer.aclose()


class _Mutable(_OnPostgres, MutableObjectStoreContract):
    implementation = PgMutableObjectStore

    async def temporary_files(self, store: MutableObjectStore) -> Sequence[str]:
        rows = await self.as_owner(f"SELECT id FROM {schema_of(self.space)}.object_contents WHERE state <> 2")
        return [str(row[0]) for row in rows]

    async def make_read_only(self, store: MutableObjectStore) -> None:
        for table in _TABLES:
            await self.as_owner(f"REVOKE INSERT, UPDATE, DELETE ON {schema_of(self.space)}.{table} FROM {self.role}")


class TestPgMutableObjectStore(_Mutable):
    bucket = "Bücket"

    def make_store(self) -> PgMutableObjectStore:
        return PgMutableObjectStore(self.database(), PgObjectConfig(bucket=self.bucket))


class TestPgMutableObjectStoreWithSmallParts(_Mutable):
    """Objects of the laws have hundreds of parts, and few connections serve them."""

    def make_store(self) -> PgMutableObjectStore:
        return PgMutableObjectStore(self.database(), PgObjectConfig(part_bytes=65_000))

    def place(self) -> PgConfig:
        return parse_address(server().url(schema_of(self.space)), self.role, "of a test", max_connections=2)


class TestPgMutableObjectStoreWithLostReplies(_Mutable):
    """Every transaction is committed and its reply lost; what is repeated comes to the same."""

    def make_store(self) -> PgMutableObjectStore:
        return PgMutableObjectStore(ForgetfulDatabase(self.place()), PgObjectConfig(part_bytes=65_000))
