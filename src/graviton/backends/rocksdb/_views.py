"""Transactions as a function sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

from graviton.backends.rocksdb._cursor import Cursor
from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._moments import Moment
from graviton.backends.rocksdb._overlay import Overlay, merged
from graviton.errors import LimitExceeded, Unavailable
from graviton.ports.kv import MAX_KEY_BYTES, RefusedWrites, check_key, check_namespace, check_value

__all__ = ["MAX_VALUE_BYTES", "ReadView", "WriteView"]

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""A value is read and written whole; the largest we store, a manifest page, has 147 KB."""


class ReadView(RefusedWrites):
    """One moment of the store; a `ReadTransaction`. Over when the function returns."""

    operation: str = "kv.read"

    def __init__(self, database: Database, moment: Moment, check_cancelled: Callable[[], None]) -> None:
        self._database = database
        self._moment = moment
        self._check_cancelled = check_cancelled
        self._over = False
        self._own: set[Cursor] = set()

    def get(self, namespace: str, key: bytes) -> bytes | None:
        check_key(key)
        return self._stored(namespace, (key,))[0]

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        for key in keys:
            check_key(key)
        return self._stored(namespace, keys)

    def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        if not self._exists(namespace) or (limit is not None and limit <= 0):
            return iter(())
        cursor, is_own = self._database.cursor(self._moment, namespace, self.operation)
        if is_own:
            self._own.add(cursor)
        return self._pairs(cursor, prefix, after, limit)

    def _pairs(
        self, cursor: Cursor, prefix: bytes, after: bytes | None, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            for page in cursor.scan(prefix, after, limit):
                for pair in page:
                    self._check_usable()
                    yield pair
        finally:
            if cursor in self._own:
                self._own.discard(cursor)
                cursor.close()

    def namespaces(self) -> list[str]:
        """Names of the namespaces that exist at that moment, sorted."""
        self._check_usable()
        return sorted(self._moment.families)

    def checkpoint(self, folder: str) -> None:
        """Copy the store, as it is now, to `folder`. Raises what RocksDB says, as an error of ours."""
        self._check_usable()
        self._database.checkpoint(folder)

    def check_wanted(self) -> None:
        """Raise if nobody waits for this view any more."""
        self._check_usable()

    def finish(self) -> None:
        """End the view: an open scan would keep files and memtables, and whoever kept the view gets an error."""
        self._over = True
        for cursor in self._own:
            cursor.close()
        self._own.clear()

    def _stored(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if not self._exists(namespace):
            return [None] * len(keys)
        return self._database.get_many(self._moment, namespace, keys, self.operation) if keys else []

    def _exists(self, namespace: str) -> bool:
        self._check_usable()
        if namespace in self._moment.families:
            return True
        check_namespace(namespace)
        return False

    def _check_usable(self) -> None:
        if self._over:
            raise Unavailable("this transaction is over", operation=self.operation)
        self._check_cancelled()


class WriteView(ReadView):
    """A transaction that can change things; a `Transaction`. Its changes go to an overlay, which it reads first."""

    operation = "kv.transact"

    def __init__(
        self, database: Database, moment: Moment, overlay: Overlay, check_cancelled: Callable[[], None]
    ) -> None:
        super().__init__(database, moment, check_cancelled)
        self._overlay = overlay
        self.failure: LimitExceeded | None = None
        """It wrote more than a transaction may: it fails, also if the function goes on."""

    def get(self, namespace: str, key: bytes) -> bytes | None:
        return self.get_many(namespace, (key,))[0]

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        table = self._overlay.tables.get(namespace)
        if table is None:
            return super().get_many(namespace, keys)
        for key in keys:
            check_key(key)
        changed, asked = table.values, [key for key in keys if key not in table.values]
        stored = iter(self._stored(namespace, asked))
        found = [changed[key] if key in changed else next(stored) for key in keys]
        if table.cleared:
            return [
                None if key not in changed and table.hides(key) else value
                for key, value in zip(keys, found, strict=True)
            ]
        return found

    def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        table = self._overlay.tables.get(namespace)
        if table is None:
            return super().scan(namespace, prefix, after, limit)
        self._check_usable()
        changed = self._overlay.between(namespace, prefix, after)
        stored = super().scan(namespace, prefix, after)
        if table.cleared:
            stored = (pair for pair in stored if not table.hides(pair[0]))
        pairs = merged(stored, changed)
        return pairs if limit is None else islice(pairs, max(limit, 0))

    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        self.put_many(namespace, ((key, value),))

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        self._exists(namespace)  # whatever it says: the name must be legal
        size = 0
        are_bytes = True
        for key, value in items:  # in line: a batch of 1,000 rows took half as long again with a call for each
            if not 1 <= (key_bytes := len(key)) <= MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES:
                check_key(key)
                check_value(value, MAX_VALUE_BYTES)
            if type(key) is not bytes or type(value) is not bytes:
                are_bytes = False
            size += key_bytes + len(value)
        if items:
            # rocksdict takes nothing else, and a buffer may change until it is written.
            self._set(namespace, items if are_bytes else [(bytes(key), bytes(value)) for key, value in items], size)

    def delete(self, namespace: str, key: bytes) -> bool:
        if self.get(namespace, key) is None:
            return False
        self._set(namespace, [(bytes(key), None)], len(key))
        return True

    def delete_many(self, namespace: str, keys: Sequence[bytes]) -> None:
        for key in keys:
            check_key(key)
        if keys and (self._exists(namespace) or namespace in self._overlay.tables):
            self._set(namespace, [(bytes(key), None) for key in keys], sum(map(len, keys)))

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        if not self._exists(namespace) and namespace not in self._overlay.tables:
            return
        if end is None or start < end:  # RocksDB refuses one that ends before it begins
            with self._bounded():
                self._overlay.clear(namespace, bytes(start), None if end is None else bytes(end))

    def namespaces(self) -> list[str]:
        return sorted({*super().namespaces(), *self._overlay.tables})

    def _set(self, namespace: str, pairs: Sequence[tuple[bytes, bytes | None]], size: int) -> None:
        with self._bounded():
            self._overlay.set(namespace, pairs, size)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except LimitExceeded as error:
            self.failure = error
            raise

    def _check_usable(self) -> None:
        super()._check_usable()
        if self.failure is not None:
            raise self.failure
