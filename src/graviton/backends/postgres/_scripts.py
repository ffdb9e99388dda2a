"""Transactions as generators of statements, apart from who sends them.

A script yields the statements that can go to the server together, is sent their results, and returns what the
transaction is about. Nothing in it knows a connection: the same script runs pipelined in production, and statement by
statement, interleaved with another one, in tests. Whoever runs it begins and commits the transaction; a script that
raises takes it back. It may be run again from its beginning, so it has no other effects.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from psycopg import AsyncConnection
from psycopg.errors import Error, InvalidSqlStatementName
from psycopg.pq import TransactionStatus

from graviton.backends.postgres.errors import LostReply
from graviton.ports.kv import Durability

__all__ = ["KNOWN_OUTCOMES", "Last", "Result", "Script", "Statement", "roll_back", "run_script", "send"]

_T = TypeVar("_T")

Row: TypeAlias = tuple[Any, ...]


class Statement(NamedTuple):
    """One statement; `%(name)b` and `%b` are parameters in binary form."""

    sql: str
    values: Mapping[str, Any] | Sequence[Any] = ()


class Result(NamedTuple):
    """What came of a statement."""

    rows: list[Row]
    changed: int
    """Rows changed, or found."""


class Last(NamedTuple):
    """The last statements of a script: COMMIT goes to the server with them. What they do must not need to be looked at
    before it is committed."""

    statements: Sequence[Statement]
    transaction: str | None = None
    """Its number, of a script that changes something and must not be run twice: see `_outcomes.py`."""


Script: TypeAlias = Generator["Sequence[Statement] | Last", list[Result], _T]

_BEGIN = (Statement("BEGIN ISOLATION LEVEL READ COMMITTED"),)
_BEGIN_RELAXED = (*_BEGIN, Statement("SET LOCAL synchronous_commit TO off"))

_COMMIT = Statement("COMMIT")

KNOWN_OUTCOMES = ("0A", "22", "23", "25", "26", "40", "42", "53", "54", "55", "57014", "XX")
"""Errors, or their classes, that tell for sure that a transaction was not committed, also when they answer COMMIT. Any
other failure leaves the outcome open: a server that is stopped may have committed before it says so."""


async def run_script(connection: AsyncConnection[Row], script: Script[_T], durability: Durability) -> _T:
    """Run `script` as one transaction. Raises what it raises, errors of the driver, and LostReply if it is not known
    whether the transaction was committed."""
    begin: Sequence[Statement] = _BEGIN_RELAXED if durability is Durability.RELAXED else _BEGIN
    began = committed = False
    try:
        batch = next(script)
        while True:
            assert not committed, "nothing comes after the last statements"
            first = [] if began else begin
            began = True
            if isinstance(batch, Last):
                committed = True
                results = await _send_last(connection, [*first, *batch.statements], batch.transaction)
            else:
                results = await send(connection, [*first, *batch])
            batch = script.send(results[len(first) :])
    except StopIteration as done:
        if began and not committed:
            await _send_last(connection, [])
        result: _T = done.value
        return result
    except BaseException:
        script.close()
        await roll_back(connection)
        raise


async def send(connection: AsyncConnection[Row], statements: Sequence[Statement]) -> list[Result]:
    """Send statements in one go and wait for all results. At the first that fails the server passes over the rest."""
    try:
        if len(statements) == 1:
            cursors = [await connection.execute(*statements[0], binary=True)]
        else:
            async with connection.pipeline():
                cursors = [await connection.execute(*statement, binary=True) for statement in statements]
    except InvalidSqlStatementName:
        # Where the server passed over a statement that was to be prepared, the driver believes that it was.
        await connection.close()
        raise
    return [
        Result(await cursor.fetchall() if cursor.description is not None else [], cursor.rowcount) for cursor in cursors
    ]


async def _send_last(
    connection: AsyncConnection[Row], statements: Sequence[Statement], transaction: str | None = None
) -> list[Result]:
    """Send statements and COMMIT. Raises LostReply if the outcome is open."""
    try:
        return (await send(connection, [*statements, _COMMIT]))[:-1]
    except Error as error:
        if error.sqlstate is not None and error.sqlstate.startswith(KNOWN_OUTCOMES):
            raise
        lost = LostReply("the connection broke while a change was committed", operation="commit")
        lost.transaction = transaction
        raise lost from error


async def roll_back(connection: AsyncConnection[Row]) -> None:
    """End the transaction if the connection is still good for that; if not, the server ends it."""
    if connection.closed or connection.info.transaction_status == TransactionStatus.IDLE:
        return
    try:
        await connection.execute("ROLLBACK")
    except Error:
        await connection.close()
