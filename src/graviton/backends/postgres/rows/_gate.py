"""Closing the metadata of a database for changes: triggers that refuse every statement while it is closed.

Programs write with statements of their own, so a row alone would stop nobody. A trigger is part of the table: it
refuses whoever writes through whatever connection, and costs nothing while there is none or it is disabled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from psycopg import sql

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres.errors import CLOSED_STATES
from graviton.metadata.read_only import ReadOnly, read_only_row
from graviton.ports.kv import Transaction

__all__ = ["CLOSED_TABLES", "GO_PAST", "MAY_CLOSE", "through_gate"]

_T = TypeVar("_T")

CLOSED_TABLES = (
    "blobs",
    "blocks",
    "candidates",
    "domains",
    "holders",
    "kv",
    "kv_namespaces",
    "notes",
    "owners",
    "pages",
    "range_heads",
    "ranges",
    "refs",
    "replica_counts",
    "replicas",
    "totals",
)
"""Every table of metadata. Not the events, which followers read and trim on, nor objects, which are data."""

MAY_CLOSE = """
SELECT bool_and(pg_has_role(relowner, 'USAGE')) AND has_schema_privilege(current_schema(), 'CREATE')
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = ANY(%(tables)b::text[])
"""
"""Whether this role owns the tables, and may make a function beside them."""

GO_PAST = "SET LOCAL graviton.past_gate TO 'on'"
"""Whoever closed the metadata says so at the beginning of his transactions, and is not refused."""

_NAME = sql.Identifier("refuse_changes")
_TABLES = [sql.Identifier(name) for name in CLOSED_TABLES]

# Not dropped: that would wait for whoever reads the tables. This lock, and what follows, waits for writers alone.
_LOCK = sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.SQL(", ").join(_TABLES))

_FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS {body}
"""

_BODY = """
BEGIN
    IF current_setting('graviton.past_gate', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = {state}, MESSAGE = {message}, HINT = {hint};
END
"""

_TRIGGER = """
CREATE OR REPLACE TRIGGER {name} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION {name}()
"""

_ENABLE = "ALTER TABLE {table} ENABLE TRIGGER {name}"
_DISABLE = "ALTER TABLE {table} DISABLE TRIGGER {name}"

_CLOSED = """
SELECT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = current_schema()::regnamespace AND tgname = 'refuse_changes' AND tgenabled <> 'D'
"""


def through_gate(connection: Connection, tx: Transaction, fn: Callable[[Transaction], _T]) -> _T:
    """Run `fn` past the gate; afterwards that is closed if the row says so, and open if there is none. Nobody else
    writes meanwhile. The transaction must not have read anything yet: it sees the rows as they are once the lock is
    there."""
    connection.execute(_LOCK)
    connection.execute(GO_PAST)
    result = fn(tx)
    row = read_only_row(tx)
    if row is not None:
        _close(connection, row)
        return result
    for (name,) in connection.execute(_CLOSED).fetchall():
        connection.execute(sql.SQL(_DISABLE).format(table=sql.Identifier(str(name)), name=_NAME))
    return result


def _close(connection: Connection, row: ReadOnly) -> None:
    refusal = row.refusal()
    body = sql.SQL(_BODY).format(
        state=sql.Literal(CLOSED_STATES[type(refusal)]),
        message=sql.Literal(refusal.message),
        hint=sql.Literal(refusal.hint),
    )
    connection.execute(sql.SQL(_FUNCTION).format(name=_NAME, body=sql.Literal(body.as_string(connection))))
    for table in _TABLES:
        connection.execute(sql.SQL(_TRIGGER).format(name=_NAME, table=table))
        connection.execute(sql.SQL(_ENABLE).format(table=table, name=_NAME))
