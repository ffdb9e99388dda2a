"""The schema of the database, step by step: `graviton db migrate` and `graviton db status`.

A migration is a file `V<number>__<what>.sql` beside this module. Each is applied once, in a transaction of its own,
in the order of numbers, by one process at a time (an advisory lock), and remembered in the table `migrations` with the
SHA-256 of its text: an applied file must never change, be missing, or be unknown to the program.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from graviton.errors import ConfigError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["Applied", "Migration", "MigrationStatus", "check_version", "known_migrations", "migrate", "status"]

_NAME = re.compile(r"V([1-9][0-9]{0,5})__([a-z0-9_]+)\.sql", re.ASCII)

_LOCK = 0x6772_6176_6974_6F6E
"""Key of the advisory lock: the ASCII codes of "graviton"."""

_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT current_user,
    program    text NOT NULL
);
COMMENT ON TABLE migrations IS 'Migrations that were applied; written by graviton db migrate only.';
COMMENT ON COLUMN migrations.version IS 'Number of the file.';
COMMENT ON COLUMN migrations.name IS 'Name of the file.';
COMMENT ON COLUMN migrations.checksum IS 'SHA-256 of its text in hex.';
COMMENT ON COLUMN migrations.applied_at IS 'When.';
COMMENT ON COLUMN migrations.applied_by IS 'By which role.';
COMMENT ON COLUMN migrations.program IS 'Version of graviton.';
"""


class Migration(NamedTuple):
    """One file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Applied(NamedTuple):
    """A row of the table `migrations`."""

    version: int
    name: str
    checksum: str
    applied_at: str
    """UTC, ISO 8601."""


class MigrationStatus(NamedTuple):
    """What a database has and lacks."""

    applied: list[Applied]
    pending: list[Migration]
    problem: str
    """Why it must not be migrated, empty if nothing is wrong."""


def known_migrations() -> list[Migration]:
    """The migrations of this version, in order. Raises ConfigError if the installation lacks one."""
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), file.name, file.read_text("utf-8")))
    found.sort()
    if [one.version for one in found] != list(range(1, len(found) + 1)):
        raise ConfigError("this installation of graviton lacks a migration file", hint="Install it again.")
    return found


async def check_version(connection: AsyncConnection[Any]) -> str:
    """Why this version cannot work with the tables there, empty if it can."""
    from psycopg.errors import InvalidSchemaName, UndefinedTable

    known = known_migrations()
    try:
        cursor = await connection.execute("SELECT version FROM migrations ORDER BY version")
        applied = [version for (version,) in await cursor.fetchall()]
    except (UndefinedTable, InvalidSchemaName):
        return "it was never migrated"
    newest = applied[-1] if applied else 0
    if newest > known[-1].version:
        return f"it has version {newest}, and this program knows {known[-1].version}: use a newer graviton"
    lacking = [version for version in range(1, newest) if version not in applied]
    if lacking:
        return f"it lacks migration {lacking[0]}, though it has {newest}"
    if newest < known[-1].version:
        return f"it has version {newest}, and this program needs {known[-1].version}"
    return ""


async def status(connection: AsyncConnection[Any], known: Sequence[Migration] | None = None) -> MigrationStatus:
    """Compare the database with the files. Changes nothing."""
    files = known_migrations() if known is None else list(known)
    cursor = await connection.execute("SELECT to_regclass('migrations') IS NOT NULL")
    row = await cursor.fetchone()
    applied: list[Applied] = []
    if row is not None and row[0]:
        cursor = await connection.execute(
            "SELECT version, name, checksum, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
            " FROM migrations ORDER BY version"
        )
        applied = [Applied(*found) for found in await cursor.fetchall()]
    return MigrationStatus(applied, files[len(applied) :], _problem(applied, files))


def _problem(applied: Sequence[Applied], files: Sequence[Migration]) -> str:
    for place, one in enumerate(applied):
        if one.version != place + 1:
            return f"migration {place + 1} was never applied, but {one.name} was: there is a gap"
        if place >= len(files):
            return f"{one.name} was applied by a newer graviton than this one"
        if (one.name, one.checksum) != (files[place].name, files[place].checksum):
            return f"{one.name} was applied with another text than {files[place].name} has here"
    return ""


async def migrate(
    connection: AsyncConnection[Any], schema: str, program: str, known: Sequence[Migration] | None = None
) -> MigrationStatus:
    """Apply what is missing; the status before. Others that migrate wait for us, and find nothing to do. Raises
    ConfigError when something does not fit; migrations applied before stay."""
    files = known_migrations() if known is None else known
    await connection.execute("SET statement_timeout TO 0")  # an index of a large table takes its time
    await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    try:
        async with connection.transaction():
            # Only where it is missing: a role that owns the schema need not be allowed to make schemas.
            cursor = await connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema])
            if cursor.rowcount == 0:
                await connection.execute(f"CREATE SCHEMA {schema}")  # a checked name
            await connection.execute(_TABLE)
        before = await status(connection, files)
        if before.problem:
            raise ConfigError(
                f"the database cannot be migrated: {before.problem}",
                operation="db.migrate",
                hint="Use the version of graviton that belongs to this database, or restore the database.",
            )
        for one in before.pending:
            async with connection.transaction():
                await connection.execute(one.sql)  # the text of a file of ours
                await connection.execute(
                    "INSERT INTO migrations (version, name, checksum, program) VALUES (%s, %s, %s, %s)",
                    [one.version, one.name, one.checksum, program],
                )
        return before
    finally:
        if not connection.closed:
            await connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
