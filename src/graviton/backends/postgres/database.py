"""`PgDatabase`: the connections of one process to one database, and how work gets to them.

Everything of this backend goes through it. A pool per event loop serves scripts and single reads; `transact` functions
of the key-value store, which are ordinary blocking code, have a few connections and threads of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from graviton.backends.postgres._arrays import register_arrays
from graviton.backends.postgres._bell import Bell
from graviton.backends.postgres._blocking import BlockingTransactions, Connection
from graviton.backends.postgres._scripts import Row, Script, Statement, roll_back, run_script, send
from graviton.backends.postgres._tries import Tries
from graviton.backends.postgres._waiting import Waiting
from graviton.backends.postgres.config import PgConfig
from graviton.backends.postgres.errors import FAILURES, LostReply, translate, unmigrated
from graviton.backends.postgres.metrics import ConnectionUse, PgMetrics
from graviton.backends.postgres.migrate import check_version
from graviton.concurrency.lifetime import Lifetime
from graviton.core.clock import Clock, SystemClock
from graviton.errors import ConfigError, GravitonError
from graviton.ports.events import EventKind
from graviton.ports.kv import Durability

__all__ = ["PgDatabase"]

_T = TypeVar("_T")

MIN_SERVER_VERSION = 150_000
"""PostgreSQL 15, as `server_version_num`: the oldest that the tests run on."""

_POOL_WAIT_SECONDS = 10.0
"""How long one try waits for a free connection."""


class PgDatabase:
    """Connections to one database. Making the object touches nothing: the first call connects, looks at the versions of
    server and tables, and fails at once if that cannot be; from then on, failures that may pass are tried again for
    `config.retry_seconds`. Usable from several event loops, not in a child made by fork."""

    def __init__(self, config: PgConfig, metrics: PgMetrics | None = None, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.metrics = metrics
        self._lifetime = Lifetime("database", "postgres", subject=config.where)
        self._pools: dict[asyncio.AbstractEventLoop, AsyncConnectionPool[AsyncConnection[Row]]] = {}
        self._is_checked = False
        self._use = ConnectionUse(metrics, self._count_open)
        self._blocking = BlockingTransactions(config, self.clock, metrics, self._use)
        self._waiting = Waiting(config, self.connect)
        self._bell = Bell(config.schema, self.connection)

    async def run(
        self,
        operation: str,
        script: Callable[[], Script[_T]],
        durability: Durability = Durability.FULL,
        *,
        repeats_lost: bool = True,
    ) -> _T:
        """Run a script as one transaction, again after a failure that may pass. With `repeats_lost` also when it is not
        known whether it was committed: for scripts that come to the same when they are run twice; without, that
        raises LostReply."""

        async def once() -> _T:
            async with self.connection() as connection:
                return await self._waiting.for_statements(connection, run_script(connection, script(), durability))

        return await self._repeated(operation, once, repeats_lost)

    async def fetch(self, operation: str, sql: str, values: Any = ()) -> list[Row]:
        """The rows that one reading statement finds."""

        async def once() -> list[Row]:
            async with self.connection() as connection:
                return (await send(connection, [Statement(sql, values)]))[0].rows

        return await self._repeated(operation, once, True)

    async def fetch_all(self, operation: str, statements: Sequence[Statement]) -> list[list[Row]]:
        """The rows of several reading statements, all of one snapshot."""
        begin = Statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

        async def once() -> list[list[Row]]:
            async with self.connection() as connection:
                whole = [begin, *statements, Statement("COMMIT")]
                results = await self._waiting.for_statements(connection, send(connection, whole))
                return [result.rows for result in results[1:-1]]

        return await self._repeated(operation, once, True)

    async def transact(
        self, operation: str, fn: Callable[[Connection], _T], durability: Durability | None, repeats_lost: bool
    ) -> _T:
        """`fn(connection)`, blocking code, as one serialisable transaction; see `BlockingTransactions.run`."""
        self._lifetime.check()
        began = self.clock.monotonic()
        try:
            if not self._is_checked:
                await self._repeated("postgres.open", self._check, True)
            result = await self._waiting.for_call(self._blocking.run(operation, fn, durability, repeats_lost))
        except GravitonError as error:
            self._observe(operation, began, error)
            raise
        self._observe(operation, began, None)
        return result

    async def _repeated(self, operation: str, once: Callable[[], Awaitable[_T]], repeats_lost: bool) -> _T:
        began = self.clock.monotonic()
        try:
            result = await self._tried(operation, once, repeats_lost)
        except GravitonError as failure:
            if isinstance(failure, LostReply) and not repeats_lost and self.metrics is not None:
                self.metrics.retried(operation)  # the caller looks what came of it
                self._observe(operation, began, None)
            else:
                self._observe(operation, began, failure)
            raise
        self._observe(operation, began, None)
        return result

    async def _tried(self, operation: str, once: Callable[[], Awaitable[_T]], repeats_lost: bool) -> _T:
        tries = Tries(self.config, self.clock, operation, repeats_lost, self.metrics)
        while True:
            try:
                return await once()
            except (LostReply, *FAILURES) as error:
                failure = await self._explained(error, operation)
                if not self._is_checked:
                    raise failure from error  # nobody waits half a minute to be told of a wrong address
                wait = tries.wait_after(error, failure)
            await asyncio.sleep(wait)
            await self._mend()

    async def _mend(self) -> None:
        """Throw connections away that were lost together with the one that failed, or each of them would cost a try."""
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None and not pool.closed:
            await pool.check()

    def _observe(self, operation: str, began: float, failure: GravitonError | None) -> None:
        if self.metrics is not None:
            self.metrics.observe(operation, self.clock.monotonic() - began, failure)

    async def _explained(self, error: Exception, operation: str) -> GravitonError:
        """The error of ours. A pool that has no connection does not say why it gets none: asked again by itself, the
        server does."""
        if isinstance(error, LostReply):
            return error
        if isinstance(error, PoolTimeout):
            try:
                connection = await self.connect()
            except OperationalError as reason:
                return translate(reason, self.config.where, operation)
            await connection.close()
        return translate(error, self.config.where, operation)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Row]]:
        """A connection of the pool, outside of any transaction."""
        self._lifetime.check()
        if not self._is_checked:
            await self._check()
        pool = await self._pool()
        with self._use.request() as got:
            async with pool.connection() as connection:
                got()
                try:
                    yield connection
                finally:
                    await roll_back(connection)

    @property
    def confirm_durability(self) -> Durability:
        """Of transactions that confirm blocks. Nobody waits for them on the disk, unless followers are told."""
        return Durability.FULL if EventKind.BLOCK_STORED in self.config.events else Durability.RELAXED

    def ring(self) -> None:
        """Wake followers of events soon: something was committed. Best effort, and costs the caller nothing."""
        self._bell.ring()

    async def connect(self) -> AsyncConnection[Row]:
        """A connection outside of the pool, whatever the tables there; the caller closes it. Raises errors of the
        driver."""
        connection = await AsyncConnection.connect(self.config.conninfo(), autocommit=True)
        register_arrays(connection.adapters)
        return connection

    @asynccontextmanager
    async def unpooled(self, operation: str) -> AsyncIterator[AsyncConnection[Row]]:
        """The same, for people's commands: closed afterwards, and failures are errors of ours."""
        try:
            async with await self.connect() as connection:
                yield connection
        except FAILURES as error:
            raise translate(error, self.config.where, operation) from error

    async def _check(self) -> None:
        """Look whether this is a database that this version can work with. Raises ConfigError."""
        connection = await self.connect()
        async with connection:
            version = connection.info.server_version
            if version < MIN_SERVER_VERSION:
                raise ConfigError(
                    f"{self.config.where} is PostgreSQL {version // 10_000}; Graviton needs 15 or newer",
                    operation="postgres.open",
                    subject=self.config.where,
                    hint="Upgrade the server.",
                )
            problem = await check_version(connection)
            if problem:
                raise unmigrated(self.config.where, "postgres.open", problem)
        self._is_checked = True

    async def _pool(self) -> AsyncConnectionPool[AsyncConnection[Row]]:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for other in [other for other in self._pools if other.is_closed()]:
                del self._pools[other]  # its connections are closed when they are collected
            pool = self._pools[loop] = AsyncConnectionPool(
                self.config.conninfo(lookups_only=True),
                kwargs={"autocommit": True},
                min_size=0,
                max_size=self.config.max_connections,
                timeout=_POOL_WAIT_SECONDS,
                reconnect_timeout=_POOL_WAIT_SECONDS,  # or it would try ever more rarely, up to two minutes apart
                configure=_configure,
                name="graviton",
                open=False,
            )
            await pool.open()
        return pool

    def _count_open(self) -> int:
        pools = list(self._pools.values())
        return sum(pool.get_stats()["pool_size"] for pool in pools) + self._blocking.count_open()

    async def aclose(self) -> None:
        """Close the connections. Idempotent; using the database afterwards raises Unavailable."""
        if self._lifetime.is_closed:
            return
        if self._lifetime.is_here:
            await self._bell.aclose()
        self._lifetime.is_closed = True
        if self._lifetime.is_here:
            pool = self._pools.pop(asyncio.get_running_loop(), None)
            if pool is not None:
                await pool.close()
            self._pools.clear()
            await self._blocking.aclose()
            self._use.show()


async def _configure(connection: AsyncConnection[Row]) -> None:
    """An acknowledged change must be on the disk, whatever the server's default; more (`remote_apply`) may be."""
    register_arrays(connection.adapters)
    cursor = await connection.execute("SELECT current_setting('synchronous_commit')")
    row = await cursor.fetchone()
    if row is not None and row[0] == "off":
        await connection.execute("SET synchronous_commit TO on")
