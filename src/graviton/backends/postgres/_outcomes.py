"""What became of a transaction whose reply was lost: the server knows that, by its number.

Rows would not tell. They may be as they were because nothing happened, or because somebody has put back what we took
away; done again, a delete would then take away what he has put.

A server that crashes gives numbers again that it had given and not written to its log. Then a transaction that was not
committed is known still, but one that was may be another one's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from graviton.backends.postgres._scripts import Script
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.concurrency.retry import RetryPolicy

__all__ = ["NUMBER", "run_once", "told_apart"]

_T = TypeVar("_T")

_MAX_LOST = 5
"""Replies that one call may lose before it gives up."""

_LIFE = "pg_stat_get_bgwriter_stat_reset_time()"
"""When the server began to count what it does. It begins anew when it has crashed, also if one process of it did, and
not when it was stopped; another server that takes over has a time of its own."""

NUMBER = f"concat_ws(' ', pg_current_xact_id(), {_LIFE})"
"""The number of a transaction, in SQL, and the life of the server that gave it. Asked for beside a row that is locked
or changed, which needs a number anyway."""

_STATUS = f"""
SELECT CASE WHEN pg_current_xact_id() > t.number THEN pg_xact_status(t.number) ELSE 'aborted' END,
    concat_ws(' ', t.number, {_LIFE}) = %(transaction)b::text
FROM (SELECT split_part(%(transaction)b::text, ' ', 1)::xid8) AS t(number)
"""
"""Its state, and whether the server has lived on since. A number not given yet was lost in a crash."""


async def run_once(database: PgDatabase, operation: str, script: Callable[[], Script[bool]]) -> bool:
    """Run a script that says whether it changed something; if it did, its last statements give its number. It must come
    to the same when it is run twice and nobody else changes anything in between."""
    return await told_apart(
        database, lambda: database.run(operation, script, repeats_lost=False), lambda: True, repeats=True
    )


async def told_apart(
    database: PgDatabase, once: Callable[[], Awaitable[_T]], result: Callable[[], _T], *, repeats: bool
) -> _T:
    """What `once()` gives. If it raises LostReply it is called again, unless its transaction was committed: then that
    is `result()`. One without a number has changed nothing. `repeats`: it is called again, too, if the server has
    crashed and cannot tell. Raises LostReply."""
    told: list[_T] = []
    for left in reversed(range(_MAX_LOST)):
        try:
            found = await once()
            return told[0] if told else found
        except LostReply as lost:
            committed = lost.transaction is not None and await _was_committed(database, lost)
            if committed:
                return result()
            if not left or (committed is None and not repeats):
                raise
            if committed is None:
                told.append(result())
    raise AssertionError("unreachable")


async def _was_committed(database: PgDatabase, lost: LostReply) -> bool | None:
    """None if the server cannot tell. Waits for a process of it that is still at it, until it must have ended one that
    nobody talks to."""
    operation = f"{lost.operation.partition('.')[0]}.look"
    config = database.config
    waits = RetryPolicy(total_seconds=config.retry_seconds + config.idle_in_transaction_seconds).waits(database.clock)
    while True:
        ((status, lives),) = await database.fetch(operation, _STATUS, {"transaction": lost.transaction})
        if status == "aborted":
            return False
        if status != "in progress":
            return True if status == "committed" and lives else None
        wait = next(waits, None)
        if wait is None:
            raise lost
        await asyncio.sleep(wait)
