"""`PgKeyValueStore`: ordered bytes in the table `kv`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres._outcomes import NUMBER, told_apart
from graviton.backends.postgres.capabilities import CAPABILITIES
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.errors import LostReply
from graviton.errors import Unsupported
from graviton.ports.kv import (
    Change,
    Durability,
    KeyValueStore,
    ReadTransaction,
    Transaction,
    apply_changes,
    check_key,
    check_namespace,
    check_value,
    prefix_end,
)

__all__ = ["Changes", "PgKeyValueStore", "PgTransaction"]

_T = TypeVar("_T")

MAX_VALUE_BYTES = 64 * 1024 * 1024
"""The server takes values of nearly 1 GiB, and holds several copies of each in memory while it does."""

_SCAN_ROWS = 512
"""Rows per statement of a scan."""

_GET = "SELECT value FROM kv WHERE namespace = %b AND key = %b"

_GET_MANY = """
SELECT kv.key, kv.value FROM unnest(%b::bytea[]) AS wanted(key)
JOIN kv ON kv.namespace = %b AND kv.key = wanted.key
"""

_SCAN_BYTES = 4 << 20
"""Bytes of values after which such a statement ends, for all its rows are held at once; one may go beyond by its own
size."""

_SCAN_PAGE = """
SELECT key, value FROM (
    SELECT key, value, coalesce(sum(octet_length(value)) OVER page, 0) AS before FROM kv WHERE {where}
    WINDOW page AS (ORDER BY key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) ORDER BY key LIMIT %b
) AS read WHERE before < {bytes} ORDER BY key
"""
_SCAN = _SCAN_PAGE.format(where="namespace = %b AND key >= %b AND key > %b", bytes=_SCAN_BYTES)
_SCAN_BELOW = _SCAN_PAGE.format(where="namespace = %b AND key >= %b AND key > %b AND key < %b", bytes=_SCAN_BYTES)

_PUT_MANY = f"""
WITH put AS (
    INSERT INTO kv (namespace, key, value) SELECT %b, k, v FROM unnest(%b::bytea[], %b::bytea[]) AS new(k, v)
    ON CONFLICT (namespace, key) DO UPDATE SET value = EXCLUDED.value
)
SELECT {NUMBER}
"""

_DELETE_MANY = f"""
WITH gone AS (DELETE FROM kv WHERE namespace = %b AND key = ANY(%b::bytea[]) RETURNING 1)
SELECT count(*), CASE WHEN count(*) > 0 THEN {NUMBER} END FROM gone
"""

_DELETE_RANGE = f"""
WITH gone AS (
    DELETE FROM kv WHERE namespace = %b AND key >= %b AND (%b::bytea IS NULL OR key < %b::bytea) RETURNING 1
)
SELECT count(*), CASE WHEN count(*) > 0 THEN {NUMBER} END FROM gone
"""


class Changes:
    """What a transaction has changed so far."""

    def __init__(self) -> None:
        self.namespaces: set[str] = set()
        """Those that it made, unless they were there already."""
        self.transaction: str | None = None
        """Its number; None if nothing has changed."""


class PgKeyValueStore(KeyValueStore):
    """Key-value pairs in one table; see the port for the laws. When the reply to a change was lost, the server is asked
    whether it happened. If it has crashed and cannot tell, `transact` raises Unavailable, and the others do it again.
    Closing it closes the database."""

    capabilities = CAPABILITIES._replace(max_value_bytes=MAX_VALUE_BYTES)

    def __init__(self, database: PgDatabase) -> None:
        self.database = database
        self._namespaces: set[str] = set()

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        return await self._transact("kv.transact", fn, durability, repeats=False)

    async def _transact(
        self,
        operation: str,
        fn: Callable[[Transaction], _T],
        durability: Durability = Durability.FULL,
        *,
        repeats: bool = True,
    ) -> _T:
        """`repeats`: `fn` comes to the same when it is run twice and nobody else changes anything in between."""
        latest: tuple[_T, Changes]

        def run(connection: Connection) -> tuple[_T, Changes]:
            nonlocal latest
            changes = Changes()
            latest = fn(self._view(connection, changes)), changes
            return latest

        async def once() -> tuple[_T, Changes]:
            try:
                return await self.database.transact(operation, run, durability, False)
            except LostReply as lost:
                lost.transaction = latest[1].transaction
                raise

        result, changes = await told_apart(self.database, once, lambda: latest, repeats=repeats)
        if durability is Durability.FULL:  # what nobody waited for may be gone when the server has crashed
            self._namespaces |= changes.namespaces
        return result

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        return await self.database.transact("kv.read", lambda connection: fn(self._view(connection)), None, True)

    def _view(self, connection: Connection, changes: Changes | None = None) -> PgTransaction:
        """What a function is given; without `changes` it only reads."""
        return PgTransaction(connection, self._namespaces, changes)

    async def put(self, namespace: str, key: bytes, value: bytes) -> None:
        await self._transact("kv.put", lambda tx: tx.put(namespace, key, value))

    async def delete(self, namespace: str, key: bytes) -> bool:
        return await self._transact("kv.delete", lambda tx: tx.delete(namespace, key))

    async def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        await self._transact("kv.delete_range", lambda tx: tx.delete_range(namespace, start, end))

    async def batch(self, operations: Sequence[Change]) -> None:
        await self._transact("kv.batch", lambda tx: apply_changes(tx, operations))

    async def namespaces(self) -> list[str]:
        rows = await self.database.fetch("kv.namespaces", "SELECT name FROM kv_namespaces ORDER BY name")
        return [name for (name,) in rows]

    async def aclose(self) -> None:
        await self.database.aclose()


class PgTransaction:
    """A transaction on `kv`, which writes its `changes` down. Without them it only reads."""

    def __init__(
        self, connection: Connection, known: frozenset[str] | set[str] = frozenset(), changes: Changes | None = None
    ) -> None:
        """`known` are namespaces that need not be made."""
        self._connection = connection
        self._known = known
        self._changes = changes

    def get(self, namespace: str, key: bytes) -> bytes | None:
        """See `ReadTransaction`."""
        check_namespace(namespace)
        check_key(key)
        row = self._connection.execute(_GET, [namespace, key], binary=True).fetchone()
        return None if row is None else row[0]

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ReadTransaction`."""
        check_namespace(namespace)
        for key in keys:
            check_key(key)
        if not keys:
            return []
        rows = self._connection.execute(_GET_MANY, [list(dict.fromkeys(keys)), namespace], binary=True)
        found: dict[bytes, bytes] = dict(rows.fetchall())
        return [found.get(key) for key in keys]

    def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `ReadTransaction`."""
        check_namespace(namespace)
        return self._scan(namespace, prefix, b"" if after is None else after, limit)

    def _scan(self, namespace: str, prefix: bytes, after: bytes, limit: int | None) -> Iterator[tuple[bytes, bytes]]:
        end = prefix_end(prefix) if prefix else None
        left = limit
        while left is None or left > 0:
            wanted = _SCAN_ROWS if left is None else min(left, _SCAN_ROWS)
            bounds = [namespace, prefix, after, *([] if end is None else [end]), wanted]
            rows = self._connection.execute(_SCAN if end is None else _SCAN_BELOW, bounds, binary=True).fetchall()
            yield from rows
            if len(rows) < wanted and sum(len(value) for _, value in rows) < _SCAN_BYTES:
                return
            after = rows[-1][0]
            left = None if left is None else left - len(rows)

    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        """See `Transaction`."""
        self.put_many(namespace, [(key, value)])

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        """See `Transaction`."""
        check_namespace(namespace)
        for key, value in items:
            check_key(key)
            check_value(value, MAX_VALUE_BYTES)
        changes = self._writable()
        if not items:
            return
        if namespace not in self._known and namespace not in changes.namespaces:
            self._connection.execute("INSERT INTO kv_namespaces (name) VALUES (%b) ON CONFLICT DO NOTHING", [namespace])
            changes.namespaces.add(namespace)
        new = dict(items)  # of several values for one key the last one counts
        keys = sorted(new)
        row = self._connection.execute(_PUT_MANY, [namespace, keys, [new[key] for key in keys]]).fetchone()
        assert row is not None
        (changes.transaction,) = row

    def delete(self, namespace: str, key: bytes) -> bool:
        """See `Transaction`."""
        check_key(key)
        return self._delete(namespace, [key]) > 0

    def delete_many(self, namespace: str, keys: Sequence[bytes]) -> None:
        """See `Transaction`."""
        for key in keys:
            check_key(key)
        self._delete(namespace, keys)

    def _delete(self, namespace: str, keys: Sequence[bytes]) -> int:
        check_namespace(namespace)
        changes = self._writable()
        return self._removed(changes, _DELETE_MANY, [namespace, sorted(keys)]) if keys else 0

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        """See `Transaction`."""
        check_namespace(namespace)
        self._removed(self._writable(), _DELETE_RANGE, [namespace, start, end, end])

    def _removed(self, changes: Changes, sql: str, values: Sequence[Any]) -> int:
        row = self._connection.execute(sql, values).fetchone()
        assert row is not None
        count, number = row
        changes.transaction = number or changes.transaction
        return int(count)

    def _writable(self) -> Changes:
        if self._changes is None:
            raise Unsupported("this transaction only reads", operation="kv.read")
        return self._changes
