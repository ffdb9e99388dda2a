"""Transactions that are ordinary blocking code: what `KeyValueStore.transact` and `read` run on.

Each has a thread and a connection of a small pool. Serialisable on the server, so a function may be run again after a
conflict, as the port says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from graviton.backends.postgres._scripts import KNOWN_OUTCOMES, Row
from graviton.backends.postgres._tries import Tries
from graviton.backends.postgres.config import PgConfig
from graviton.backends.postgres.errors import FAILURES, LostReply, translate
from graviton.backends.postgres.metrics import ConnectionUse, PgMetrics
from graviton.concurrency.executors import WorkerPool, in_own_thread, in_thread
from graviton.core.clock import Clock
from graviton.errors import GravitonError
from graviton.ports.kv import Durability

__all__ = ["BlockingTransactions", "Connection"]

_T = TypeVar("_T")

Connection = psycopg.Connection[Row]

_POOL_WAIT_SECONDS = 10.0

_BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class BlockingTransactions:
    """A few threads, and as many connections, made when they are needed."""

    def __init__(self, config: PgConfig, clock: Clock, metrics: PgMetrics | None, use: ConnectionUse) -> None:
        """`use` is told of each use of a connection."""
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._use = use
        self._lock = threading.Lock()
        self._threads = WorkerPool(config.max_transact_connections, "postgres")
        self._pool: ConnectionPool[Connection] | None = None

    async def run(
        self, operation: str, fn: Callable[[Connection], _T], durability: Durability | None, repeats_lost: bool
    ) -> _T:
        """`fn(connection)` in one transaction, which only reads if `durability` is None; again after a failure that
        may pass, and, with `repeats_lost`, when it is not known whether it was committed. Raises what `fn` raises."""
        return await in_thread(self._threads, self._run, operation, fn, durability, repeats_lost)

    def _run(
        self, operation: str, fn: Callable[[Connection], _T], durability: Durability | None, repeats_lost: bool
    ) -> _T:
        tries = Tries(self._config, self._clock, operation, repeats_lost, self._metrics)
        while True:
            try:
                return self._once(fn, durability)
            except (LostReply, *FAILURES) as error:
                wait = tries.wait_after(error, self._explained(error, operation))
            time.sleep(wait)

    def _once(self, fn: Callable[[Connection], _T], durability: Durability | None) -> _T:
        with self._use.request() as got, self._opened().connection() as connection:
            got()
            try:
                connection.execute(_BEGIN_READ if durability is None else _BEGIN)
                if durability is Durability.RELAXED:
                    connection.execute("SET LOCAL synchronous_commit TO off")
                result = fn(connection)
                _commit(connection)
                return result
            finally:
                if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
                    connection.execute("ROLLBACK")

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._config.conninfo(),
                    kwargs={"autocommit": True},
                    min_size=0,
                    max_size=self._config.max_transact_connections,
                    timeout=_POOL_WAIT_SECONDS,
                    reconnect_timeout=_POOL_WAIT_SECONDS,  # as in `database.py`
                    configure=_configure,
                    name="graviton-transact",
                    open=True,
                )
            return self._pool

    def _explained(self, error: Exception, operation: str) -> GravitonError:
        if isinstance(error, LostReply):
            return error
        if isinstance(error, PoolTimeout):  # it does not say why it gets no connection
            try:
                psycopg.connect(self._config.conninfo()).close()
            except psycopg.OperationalError as reason:
                return translate(reason, self._config.where, operation)
        return translate(error, self._config.where, operation)

    def count_open(self) -> int:
        """How many connections there are."""
        pool = self._pool
        return 0 if pool is None else pool.get_stats()["pool_size"]

    async def aclose(self) -> None:
        """Let what runs finish, then close the connections. Idempotent."""
        await self._threads.close()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            await in_own_thread(pool.close)


def _commit(connection: Connection) -> None:
    try:
        done = connection.execute("COMMIT")
    except psycopg.Error as error:
        if error.sqlstate is not None and error.sqlstate.startswith(KNOWN_OUTCOMES):
            raise
        raise LostReply("the connection broke while a change was committed", operation="commit") from error
    if done.statusmessage != "COMMIT":
        # A statement failed and the function went on as if nothing were: the server has taken everything back.
        raise psycopg.errors.InFailedSqlTransaction("a statement failed inside the transaction")


def _configure(connection: Connection) -> None:
    """As `database._configure`."""
    row = connection.execute("SELECT current_setting('synchronous_commit')").fetchone()
    if row is not None and row[0] == "off":
        connection.execute("SET synchronous_commit TO on")
