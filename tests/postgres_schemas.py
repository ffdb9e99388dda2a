"""Schemas of single tests in the server that they share."""

from __future__ import annotations

from psycopg import AsyncConnection

from graviton.backends.postgres.migrate import migrate
from tests.postgres_server import PgServer

__all__ = ["drop_schema", "make_schema", "schema_of"]


def schema_of(space: str) -> str:
    """A name for a schema."""
    return space.replace("-", "_")


async def make_schema(server: PgServer, schema: str) -> None:
    """An empty schema with all tables."""
    async with await AsyncConnection.connect(server.config(schema).conninfo(), autocommit=True) as connection:
        await migrate(connection, schema, "test")


async def drop_schema(server: PgServer, schema: str) -> None:
    """Remove a schema with everything in it."""
    async with await AsyncConnection.connect(server.config(schema).conninfo(), autocommit=True) as connection:
        await connection.execute("SET client_min_messages TO warning")
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
