"""`InMemoryKeyValueStore`: the reference for `KeyValueStore`.

A namespace is a dict and the sorted list of its keys. A lock lets one transaction run at a time, so each is
serialisable and each read sees one snapshot; a transaction changes the tables in place and keeps an undo log, which is
played back if the function raises. Functions run inline: they cannot block for long, and a thread hop would cost more
than they do.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from graviton.errors import Retry, Unavailable
from graviton.ports.capabilities import Capabilities
from graviton.ports.kv import (
    Durability,
    KeyValueStore,
    ReadTransaction,
    RefusedWrites,
    Transaction,
    check_key,
    check_namespace,
    check_value,
)

__all__ = ["InMemoryKeyValueStore"]

_T = TypeVar("_T")


class _Table:
    """One namespace: the pairs, and their keys in order."""

    __slots__ = ("keys", "pairs")

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def set(self, key: bytes, value: bytes | None) -> None:
        """Set the value of `key`; None removes it."""
        if value is None:
            if self.pairs.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        else:
            if key not in self.pairs:
                insort(self.keys, key)
            self.pairs[key] = value


class _Reading(RefusedWrites):
    """A view of all tables, valid while the store's lock is held for it."""

    def __init__(self, tables: dict[str, _Table]) -> None:
        self._tables = tables
        self._over = False

    def finish(self) -> None:
        """End the view: whoever kept it gets an error, never a dirty read."""
        self._over = True

    def _check(self, namespace: str) -> None:
        check_namespace(namespace)
        if self._over:
            raise Unavailable("this transaction is over", operation="kv.transact", retry=Retry.PERMANENT)

    def get(self, namespace: str, key: bytes) -> bytes | None:
        self._check(namespace)
        check_key(key)
        table = self._tables.get(namespace)
        return None if table is None else table.pairs.get(key)

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(namespace, key) for key in keys]

    def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check(namespace)  # here, not in the generator: a bad name is refused by the call itself
        return self._scan(namespace, prefix, after, limit)

    def _scan(
        self, namespace: str, prefix: bytes, after: bytes | None, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        table = self._tables.get(namespace, _Table())
        start = bisect_left(table.keys, prefix)
        if after is not None:
            start = max(start, bisect_right(table.keys, after))
        while limit is None or limit > 0:
            self._check(namespace)
            if start >= len(table.keys) or not table.keys[start].startswith(prefix):
                return
            key = table.keys[start]
            yield key, table.pairs[key]
            start = bisect_right(table.keys, key)
            limit = None if limit is None else limit - 1


class _Writing(_Reading):
    """A view that changes the tables and remembers how they were."""

    def __init__(self, tables: dict[str, _Table], max_value_bytes: int) -> None:
        super().__init__(tables)
        self._max_value_bytes = max_value_bytes
        self._undo: list[tuple[str, bytes, bytes | None]] = []
        self._created: list[str] = []

    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        self._check(namespace)
        check_key(key)
        check_value(value, self._max_value_bytes)
        if namespace not in self._tables:
            self._tables[namespace] = _Table()
            self._created.append(namespace)
        self._set(namespace, key, bytes(value))

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in items:
            self.put(namespace, key, value)

    def delete(self, namespace: str, key: bytes) -> bool:
        self._check(namespace)
        check_key(key)
        table = self._tables.get(namespace)
        if table is None or key not in table.pairs:
            return False
        self._set(namespace, key, None)
        return True

    def delete_many(self, namespace: str, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.delete(namespace, key)

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        self._check(namespace)
        keys = self._tables.get(namespace, _Table()).keys
        stop = len(keys) if end is None else bisect_left(keys, end)
        for key in reversed(keys[bisect_left(keys, start) : stop]):  # from behind: less has to move up
            self._set(namespace, key, None)

    def _set(self, namespace: str, key: bytes, value: bytes | None) -> None:
        table = self._tables[namespace]
        self._undo.append((namespace, key, table.pairs.get(key)))
        table.set(key, value)

    def roll_back(self) -> None:
        """Make the tables what they were before this transaction."""
        for namespace, key, before in reversed(self._undo):
            self._tables[namespace].set(key, before)
        for namespace in self._created:
            del self._tables[namespace]


class InMemoryKeyValueStore(KeyValueStore):
    """Key-value pairs of this process, gone with the object. May be used from several threads and event loops."""

    capabilities = Capabilities(conditional_put=True)

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._lock = threading.Lock()
        self._closed = False

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        with self._lock:
            self._check_open()
            tx = _Writing(self._tables, self.capabilities.max_value_bytes)
            try:
                return fn(tx)
            except BaseException:
                tx.roll_back()
                raise
            finally:
                tx.finish()

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        with self._lock:
            self._check_open()
            tx = _Reading(self._tables)
            try:
                return fn(tx)
            finally:
                tx.finish()

    async def namespaces(self) -> list[str]:
        with self._lock:
            self._check_open()
            return sorted(self._tables)

    async def aclose(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("this key-value store is closed", operation="kv", retry=Retry.PERMANENT)
