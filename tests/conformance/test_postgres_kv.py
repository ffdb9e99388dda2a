"""The laws of `KeyValueStore` over PostgreSQL."""

from __future__ import annotations

import pytest
from psycopg import AsyncConnection

from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.testing.conformance.kv import KeyValueStoreContract
from tests.postgres_schemas import drop_schema, make_schema, schema_of
from tests.postgres_server import server

pytestmark = pytest.mark.postgres


class TestPgKeyValueStore(KeyValueStoreContract):
    implementation = PgKeyValueStore
    backend = "postgres"

    async def set_up(self) -> None:
        self.options = ""
        await make_schema(server(), schema_of(self.space))

    async def tear_down(self) -> None:
        await drop_schema(server(), schema_of(self.space))

    def make_store(self) -> PgKeyValueStore:
        return self.implementation(PgDatabase(server().config(schema_of(self.space), self.options)))

    def make_impatient_store(self) -> PgKeyValueStore:
        config = server().config(schema_of(self.space), statement_timeout_seconds=0.05, retry_seconds=0)
        return self.implementation(PgDatabase(config))

    async def make_read_only(self) -> None:
        self.options = "-c default_transaction_read_only=on"

    async def raw_write(self, namespace: str, key: bytes, value: bytes) -> None:
        async with await self._connected() as connection:
            await connection.execute("INSERT INTO kv VALUES (%b, %b, %b)", [namespace, key, value])

    async def raw_read(self, namespace: str, key: bytes) -> bytes | None:
        async with await self._connected() as connection:
            found = await connection.execute(
                "SELECT value FROM kv WHERE namespace = %b AND key = %b", [namespace, key], binary=True
            )
            row = await found.fetchone()
            return None if row is None else row[0]

    async def _connected(self) -> AsyncConnection:
        conninfo = server().config(schema_of(self.space)).conninfo()
        return await AsyncConnection.connect(conninfo, autocommit=True)


class TestPgMetadataRows(TestPgKeyValueStore):
    """The view of all metadata as rows keeps the laws where it passes namespaces on; for the others it has tests of its
    own (tests/integration/test_postgres_rows.py)."""

    implementation = PgMetadataRows
