"""What people do with the database of a store: migrate it, look at it. The store itself only uses it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from graviton._version import __version__
from graviton.assembly.settings import Settings
from graviton.errors import ConfigError, GravitonError
from graviton.ports.outbox import MAX_TRIM
from graviton.services.doctor import Check, Level

if TYPE_CHECKING:
    from graviton.backends.postgres.database import PgDatabase
    from graviton.backends.postgres.migrate import MigrationStatus

__all__ = [
    "check_database",
    "database_status",
    "drop_scratch_schema",
    "make_scratch_schema",
    "migrate_database",
    "trim_events",
]

_SLOW_SECONDS = 0.01
"""A statement that takes longer makes every put wait: the database is far away, or busy."""

_SETTINGS = "server_version", "fsync", "synchronous_commit", "full_page_writes", "max_connections"


def _database(settings: Settings) -> PgDatabase:
    if settings.postgres is None:
        raise ConfigError(
            f"the metadata of this store is {settings.metadata}, which needs no database",
            operation="db",
            hint="Set GRAVITON_METADATA=postgres and PG_JDBC_URL.",
        )
    from graviton.backends.postgres.database import PgDatabase

    return PgDatabase(settings.postgres)


async def migrate_database(settings: Settings) -> MigrationStatus:
    """Bring the tables to what this version needs; what was there before. Raises ConfigError, PermissionDenied,
    Unauthenticated, Unavailable."""
    from graviton.backends.postgres.migrate import migrate

    database = _database(settings)
    async with database.unpooled("db.migrate") as connection:
        return await migrate(connection, database.config.schema, __version__)


async def database_status(settings: Settings) -> MigrationStatus:
    """What the database has and lacks. Raises ConfigError, Unauthenticated, Unavailable."""
    from graviton.backends.postgres.migrate import status

    async with _database(settings).unpooled("db.status") as connection:
        return await status(connection)


async def trim_events(settings: Settings, older_than_seconds: float) -> AsyncGenerator[int, None]:
    """Remove old events of the outbox; how many each step did. Raises ConfigError, Unauthenticated, Unavailable."""
    database = _database(settings)
    from graviton.backends.postgres.outbox import PgOutbox  # after that: there may be no driver

    try:
        before_ns = database.clock.now_ns() - int(older_than_seconds * 1_000_000_000)
        done = MAX_TRIM
        while done == MAX_TRIM:
            done = await PgOutbox(database).trim(before_ns)
            yield done
    finally:
        await database.aclose()


async def make_scratch_schema(settings: Settings, name: str) -> Settings:
    """Settings of an empty schema beside the store's, made and migrated unless it is there; it needs a role that may
    make schemas. Raises PermissionDenied, Unavailable."""
    from graviton.backends.postgres.migrate import migrate

    scratch = _scratch(settings, name)
    async with _database(scratch).unpooled("store.check") as connection:
        await migrate(connection, name, __version__)
    return scratch


async def drop_scratch_schema(settings: Settings, name: str) -> None:
    """Remove it with everything in it."""
    async with _database(_scratch(settings, name)).unpooled("store.check") as connection:
        await connection.execute("SET client_min_messages TO warning")
        await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def _scratch(settings: Settings, name: str) -> Settings:
    assert settings.postgres is not None, "whoever checks it has one"
    return settings._replace(postgres=replace(settings.postgres, schema=name))


async def check_database(settings: Settings) -> AsyncIterator[Check]:
    """Whether the database answers, how fast, and whether it keeps what it acknowledges."""
    from graviton.backends.postgres.migrate import status

    try:
        async with _database(settings).unpooled("doctor") as connection:
            values = {}
            for name in _SETTINGS:
                row = await (await connection.execute("SELECT current_setting(%s)", [name])).fetchone()
                values[name] = "" if row is None else str(row[0])
            began = time.perf_counter()
            for _ in range(10):
                await connection.execute("SELECT 1")
            seconds = (time.perf_counter() - began) / 10
            found = await status(connection)
    except GravitonError as error:
        yield Check("database", Level.PROBLEM, error.message, error.hint, {"error": error.code})
        return
    yield _answer(settings, values["server_version"], seconds)
    if values["fsync"] == "off" or values["full_page_writes"] == "off":
        hint = "Turn fsync and full_page_writes on in postgresql.conf, unless this data may be lost."
        text = "this server can lose or damage what it has acknowledged when the power fails"
        yield Check("database.durable", Level.PROBLEM, text, hint, values)
    else:
        yield Check("database.durable", Level.OK, "this server keeps what it has acknowledged", values=values)
    yield _migrations(found)


def _answer(settings: Settings, version: str, seconds: float) -> Check:
    assert settings.postgres is not None, "whoever checks it has one"
    text = f"{settings.postgres.where} is PostgreSQL {version} and answers in {seconds * 1000:.2f} ms"
    values = {"server_version": version, "seconds": round(seconds, 6)}
    if seconds > _SLOW_SECONDS:
        hint = "Every put waits for several answers: bring the two nearer to each other, or see what keeps it busy."
        return Check("database", Level.WARNING, text, hint, values)
    return Check("database", Level.OK, text, values=values)


def _migrations(found: MigrationStatus) -> Check:
    version = found.applied[-1].version if found.applied else 0
    values = {"version": version, "pending": len(found.pending)}
    if found.problem:
        return Check("database.migrations", Level.PROBLEM, found.problem, "Use the graviton that migrated it.", values)
    if found.pending:
        text = f"the tables have version {version}, {len(found.pending)} migrations are to be applied"
        return Check("database.migrations", Level.PROBLEM, text, "Run `graviton db migrate`.", values)
    return Check("database.migrations", Level.OK, f"the tables have version {version}, the newest", values=values)
