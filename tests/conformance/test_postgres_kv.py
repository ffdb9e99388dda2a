"""The laws of `KeyValueStore` over PostgreSQL."""

from __future__ import annotations

from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.kv import PgKeyValueStore
from graviton.testing.conformance.kv import KeyValueStoreContract
from tests.postgres_schemas import drop_schema, make_schema, schema_of
from tests.postgres_server import server


class TestPgKeyValueStore(KeyValueStoreContract):
    implementation = PgKeyValueStore
    backend = "postgres"

    async def set_up(self) -> None:
        await make_schema(server(), schema_of(self.space))

    async def tear_down(self) -> None:
        await drop_schema(server(), schema_of(self.space))

    def make_store(self) -> PgKeyValueStore:
        return PgKeyValueStore(PgDatabase(server().config(schema_of(self.space))))
