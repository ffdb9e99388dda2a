"""Migrations: from empty, from every earlier version, by many at once; and what must not be migrated."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from psycopg import AsyncConnection

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.migrate import Migration, known_migrations, migrate, status
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.errors import ConfigError
from graviton.metadata.audit import audit
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys
from tests.integration.postgres_versions import add_rows, check_rows, rows_of, use_rows
from tests.postgres_schemas import drop_schema
from tests.postgres_server import server

pytestmark = pytest.mark.postgres

KNOWN = known_migrations()


@pytest.fixture
async def place() -> AsyncIterator[tuple[str, AsyncConnection[Any]]]:
    schema = f"mig_{secrets.token_hex(8)}"
    connection = await AsyncConnection.connect(server().config(schema).conninfo(), autocommit=True)
    async with connection:
        yield schema, connection
    await drop_schema(server(), schema)


async def use(schema: str) -> None:
    """Put and read something, as this version does."""
    database = PgDatabase(server().config(schema))
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    upload = Upload.of(block_keys(5, secrets.token_hex(4)), secrets.token_hex(4))
    await metadata.put(upload)
    assert (await metadata.repo.get(upload.key)).block_count == 5
    assert [finding async for finding in audit(PgMetadataRows(database))] == []
    await database.aclose()


async def refused(schema: str, match: str) -> None:
    database = PgDatabase(server().config(schema))
    with pytest.raises(ConfigError, match=match):
        await database.fetch("test", "SELECT 1")
    await database.aclose()


async def test_from_empty(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, connection = place
    before = await migrate(connection, schema, "test")
    assert (before.applied, before.pending) == ([], KNOWN)
    after = await status(connection)
    assert [one.version for one in after.applied] == [one.version for one in KNOWN]
    assert (after.pending, after.problem) == ([], "")
    await use(schema)


@pytest.mark.parametrize("version", [one.version for one in KNOWN])
async def test_from_every_version(place: tuple[str, AsyncConnection[Any]], version: int) -> None:
    schema, connection = place
    for number in range(1, version + 1):  # each version was in use before the next one came
        await migrate(connection, schema, "test", KNOWN[:number])
        await add_rows(connection, number)
    if version < KNOWN[-1].version:
        await refused(schema, f"has version {version}, and this program needs {KNOWN[-1].version}")
    before = await rows_of(connection, schema)
    assert all(before.values()), "something is in every table"
    assert (await migrate(connection, schema, "test")).pending == KNOWN[version:]
    after = await rows_of(connection, schema)
    for name, rows in before.items():  # there may be more columns
        assert all(old.items() <= new.items() for old, new in zip(rows, after[name], strict=True)), name
    database = PgDatabase(server().config(schema))
    assert [finding async for finding in audit(PgMetadataRows(database))] == []
    await check_rows(database, version)
    await use_rows(database)
    await database.aclose()
    await use(schema)


async def test_many_at_once_apply_each_once(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, _ = place
    connections = [await AsyncConnection.connect(server().config(schema).conninfo(), autocommit=True) for _ in range(5)]
    done = await asyncio.gather(*(migrate(connection, schema, "test") for connection in connections))
    assert sorted(len(one.pending) for one in done) == [0, 0, 0, 0, len(KNOWN)]
    for connection in connections:
        await connection.close()
    await use(schema)


def changed(files: Sequence[Migration]) -> list[Migration]:
    return [files[0]._replace(sql=files[0].sql + "\n-- one more line"), *files[1:]]


async def test_changed_file_is_refused(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, connection = place
    await migrate(connection, schema, "test", changed(KNOWN)[:1])
    assert "another text" in (await status(connection)).problem
    with pytest.raises(ConfigError, match=r"V1__init\.sql was applied with another text"):
        await migrate(connection, schema, "test")
    assert len((await status(connection)).applied) == 1


async def test_gap_is_refused(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, connection = place
    await migrate(connection, schema, "test")
    await connection.execute("DELETE FROM migrations WHERE version = 1")
    with pytest.raises(ConfigError, match="gap"):
        await migrate(connection, schema, "test")
    await refused(schema, f"lacks migration 1, though it has {KNOWN[-1].version}")


async def test_newer_database_is_refused(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, connection = place
    newer = Migration(len(KNOWN) + 1, f"V{len(KNOWN) + 1}__later.sql", "CREATE TABLE later (id int)")
    await migrate(connection, schema, "test", [*KNOWN, newer])
    await refused(schema, "use a newer graviton")
    with pytest.raises(ConfigError, match="newer graviton"):
        await migrate(connection, schema, "test")


async def test_failed_migration_leaves_what_was_there(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, connection = place
    broken = Migration(len(KNOWN) + 1, f"V{len(KNOWN) + 1}__x.sql", "CREATE TABLE half (id int); SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(connection, schema, "test", [*KNOWN, broken])
    assert len((await status(connection)).applied) == len(KNOWN)
    row = await (await connection.execute("SELECT to_regclass('half')")).fetchone()
    assert row == (None,)
    await use(schema)


async def test_every_table_and_column_has_a_comment(place: tuple[str, AsyncConnection[Any]]) -> None:
    schema, connection = place
    await migrate(connection, schema, "test")
    rows = await (
        await connection.execute(
            "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0"
            " AND NOT a.attisdropped WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r'"
            " AND col_description(c.oid, a.attnum) IS NULL"
            " UNION ALL SELECT c.relname, '' FROM pg_class c WHERE c.relnamespace = %s::regnamespace"
            " AND c.relkind = 'r' AND obj_description(c.oid) IS NULL",
            [schema, schema],
        )
    ).fetchall()
    assert rows == []
