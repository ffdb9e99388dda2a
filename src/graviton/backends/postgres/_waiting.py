"""How calls wait for their transactions: to the end, also when they are cancelled, and not for ever for the frozen.

A client that stops within a transaction (a stopped process, a machine that sleeps or is gone) holds locks for as long
as its connection lives. The time-outs of PostgreSQL 15 and 16 do not end it. In the middle of a pipeline it is at work
on a statement whose rest is on its way, and `statement_timeout` does not count while the server reads. Between two
pipelines `idle_in_transaction_session_timeout` begins, and is called off by the Flush that psycopg sends after each:
only blocking code, which does without pipelines, is ended by it. So whoever waits for long looks for such clients and
ends them. It costs nothing before that, and hits nobody who works or waits himself, as a time-out for whole
transactions (17 and later) would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from psycopg import AsyncConnection

from graviton.backends.postgres._scripts import Row
from graviton.backends.postgres.config import PgConfig
from graviton.backends.postgres.errors import FAILURES
from graviton.concurrency.finishing import finish_anyway, until_done

__all__ = ["Waiting"]

_T = TypeVar("_T")

_CANCEL_SECONDS = 5.0
"""How long the server may take to accept that a statement is to be stopped."""

_LOOKS = 3
"""How often somebody looks in the time for which a client may be silent: a frozen one is ended at most a third of it
late. At 30 s a look is every 10 s, and a call takes milliseconds."""

_END_FROZEN = """
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND pg_has_role(a.usesysid, 'USAGE')
    AND a.state IN ('active', 'idle in transaction') AND a.wait_event IN ('ClientRead', 'ClientWrite')
    AND current_setting('idle_in_transaction_session_timeout') <> '0'
    AND a.state_change < clock_timestamp() - current_setting('idle_in_transaction_session_timeout')::interval
    AND EXISTS (
        SELECT FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
        WHERE l.pid = a.pid AND l.granted AND l.mode <> 'AccessShareLock' AND c.relnamespace = to_regnamespace(%b)
    )
"""
"""Ends clients that change tables of a schema and have been silent in the middle of it for as long as the setting
allows. `state_change` is when their last message came. Only of users whose rights we have: the server shows us no
others, and lets us end no others."""


class Waiting:
    """Waits for transactions of one process."""

    def __init__(self, config: PgConfig, connect: Callable[[], Awaitable[AsyncConnection[Row]]]) -> None:
        """`connect()` makes a connection outside of the pool, all of which may wait for the same client."""
        self._schema = config.schema
        self._pause_seconds = config.idle_in_transaction_seconds / _LOOKS
        self._connect = connect
        self._is_looking = False

    async def for_statements(self, connection: AsyncConnection[Row], work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, which sends statements together. Cancelled, the server is asked to stop the one it is
        at, and `work` is waited for: the driver loses count of results that were sent for and not fetched, and the next
        user of the connection would get them."""
        job = asyncio.ensure_future(work)
        try:
            return await self._result(job)
        except asyncio.CancelledError:
            await finish_anyway(_stop(connection, job))
            raise

    async def for_call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of `work`, which is cancelled with its caller and waited for."""
        job = asyncio.ensure_future(work)
        try:
            return await self._result(job)
        except asyncio.CancelledError:
            job.cancel()
            await until_done(job)
            raise

    async def _result(self, job: asyncio.Future[_T]) -> _T:
        """The result of `job`, which goes on if its caller is cancelled."""
        while not (await asyncio.wait([job], timeout=self._pause_seconds))[0]:
            await self._end_frozen()
        return job.result()

    async def _end_frozen(self) -> None:
        if self._is_looking:
            return  # one look serves all who wait
        self._is_looking = True
        try:
            async with await self._connect() as connection:
                await connection.execute(_END_FROZEN, [self._schema])
        except FAILURES:
            return  # who cannot look waits on, until `statement_timeout` tells him that he waits for somebody
        finally:
            self._is_looking = False


async def _stop(connection: AsyncConnection[Row], job: asyncio.Future[Any]) -> None:
    try:
        # It returns when the server has passed the request on, so that it cannot hit a statement of who comes next.
        await connection.cancel_safe(timeout=_CANCEL_SECONDS)
    except FAILURES:
        pass  # the connection is lost, or the server does not answer: time-outs end it
    await asyncio.wait([job])
    if not job.cancelled():
        job.exception()  # retrieved, so that it is not reported as lost
