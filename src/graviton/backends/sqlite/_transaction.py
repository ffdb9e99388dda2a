"""Transactions as a function sees them. Each method is one SQL statement, so that tests can step between them.

A namespace is the table `ns_<namespace>` (key, value, check), created by the first put; `check` is the CRC-32 of key
and value, because SQLite itself has no checksums in its file and would return a flipped bit as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from graviton.backends.sqlite.errors import FAILURES, Failure, damaged, translate
from graviton.errors import GravitonError, InvalidInput, Unavailable
from graviton.ports.kv import RefusedWrites, check_key, check_namespace, check_value, prefix_end

__all__ = ["MAX_VALUE_BYTES", "TABLE_PREFIX", "ReadView", "WriteView"]

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""A value is read and written whole; the largest we store, a manifest page, has 147 KB."""

TABLE_PREFIX: Final = "ns_"

LOOKUP_TOGETHER: Final = 64
"""Keys looked up by one statement: 1 us per key instead of 4, and below SQLite's oldest limit of 999 parameters."""

_FEW: Final = 8
"""Keys of the other such statement, for fewer: 2 us per key. Each statement also lets go of the interpreter's lock, and
on a busy process waits for it."""

_ALONE: Final = 2
"""So few are looked up one by one."""

_MAX_FOUND: Final = 100
"""SQLite's own default for `quick_check`: after so many damages the file as a whole is what is wrong."""

_MARKS: Final = {count: ",".join("?" * count) for count in (LOOKUP_TOGETHER, _FEW)}


class ReadView(RefusedWrites):
    """One snapshot on one connection; a `ReadTransaction`. Over when the function returns."""

    operation: str = "kv.read"

    def __init__(
        self, connection: sqlite3.Connection, known: set[str], path: str, check_cancelled: Callable[[], None]
    ) -> None:
        """`known`: namespaces that exist for sure, shared by the views of the connection."""
        self._connection = connection
        self._known = known
        self._path = path
        self._check_cancelled = check_cancelled
        self._over = False
        self._cursors: set[sqlite3.Cursor] = set()

    def get(self, namespace: str, key: bytes) -> bytes | None:
        check_key(key)
        if not self._exists(namespace):
            return None
        rows = self._rows_of(f"SELECT value, checksum FROM ns_{namespace} WHERE key = ?", (key,))
        return self._checked(namespace, key, *rows[0]) if rows else None

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if len(keys) <= _ALONE:
            return [self.get(namespace, key) for key in keys]
        for key in keys:
            check_key(key)
        found: dict[bytes, bytes] = {}
        if self._exists(namespace):
            together = LOOKUP_TOGETHER if len(keys) > LOOKUP_TOGETHER // 2 else _FEW
            for start in range(0, len(keys), together):
                self._look_up(namespace, keys[start : start + together], together, found)
        return [found.get(key) for key in keys]

    def _look_up(self, namespace: str, keys: Sequence[bytes], together: int, found: dict[bytes, bytes]) -> None:
        """Add the values of at most `together` keys to `found`. Always the same statement, filled up with a repeated
        key, so that it is compiled once."""
        filled = (*keys, *([keys[-1]] * (together - len(keys))))
        sql = f"SELECT key, value, checksum FROM ns_{namespace} WHERE key IN ({_MARKS[together]})"
        for key, value, checksum in self._rows_of(sql, filled):
            found[key] = self._checked(namespace, key, value, checksum)

    def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        if not self._exists(namespace) or (limit is not None and limit <= 0):
            return iter(())
        where, values = _range(prefix, after)
        cursor = self._execute(
            f"SELECT key, value, checksum FROM ns_{namespace}{where} ORDER BY key LIMIT ?",
            (*values, -1 if limit is None else limit),
        )
        self._cursors.add(cursor)
        return self._rows(namespace, cursor)

    def _rows(self, namespace: str, cursor: sqlite3.Cursor) -> Iterator[tuple[bytes, bytes]]:
        try:
            while True:
                self._check_usable()
                try:
                    row = cursor.fetchone()
                except FAILURES as error:
                    raise self._failed(error) from error
                if row is None:
                    return
                key, value, checksum = row
                if type(key) is not bytes:
                    raise damaged(self._path, self.operation, f"a key in namespace {namespace} is not a blob")
                yield key, self._checked(namespace, key, value, checksum)
        finally:
            if not self._over:  # else it is closed, and this may be another thread, which is not allowed to
                cursor.close()
                self._cursors.discard(cursor)

    def namespaces(self) -> list[str]:
        """Names of the namespaces that exist in this snapshot, sorted."""
        rows = self._rows_of("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'ns_*'")
        names = sorted(bytes(name).decode("ascii", "replace")[len(TABLE_PREFIX) :] for (name,) in rows)
        for name in names:
            try:
                check_namespace(name)
            except InvalidInput as error:
                raise damaged(self._path, self.operation, f"it has a table {name!r}") from error
        return names

    def check(self) -> list[str]:
        """What SQLite finds wrong with the structure of the file, at most `_MAX_FOUND` sentences that name the pages.
        It reads every page from the file again, also those whose damage this connection was told before."""
        found: list[str] = []
        try:
            # Else the first to read such a page gets an error that names no page, and nothing after it is looked at.
            self._connection.execute("PRAGMA cell_size_check = OFF").fetchone()
            for (told,) in self._connection.execute(f"PRAGMA quick_check({_MAX_FOUND})"):
                found += (line for line in bytes(told).decode("utf-8", "replace").splitlines() if line[:3] != "***")
        except FAILURES as error:  # after it told of the pages it goes through the rows
            self._check_cancelled()
            found.append(self._failed(error).message)
        finally:
            with suppress(*FAILURES):  # interrupted: it takes effect before it can be
                self._connection.execute("PRAGMA cell_size_check = ON").fetchone()
        return [] if found == ["ok"] else found

    def interrupt(self) -> None:
        """End a statement that runs, from another thread."""
        self._connection.interrupt()

    def finish(self) -> None:
        """End the view: an open scan would keep its snapshot, and whoever kept the view gets an error."""
        self._over = True
        for cursor in self._cursors:
            cursor.close()

    def _checked(self, namespace: str, key: bytes, value: Any, checksum: Any) -> bytes:
        if type(value) is not bytes or crc32(value, crc32(key)) != checksum:
            raise damaged(self._path, self.operation, f"a row of namespace {namespace} fails its checksum")
        return value

    def _exists(self, namespace: str) -> bool:
        self._check_usable()
        if namespace in self._known:
            return True
        check_namespace(namespace)
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
        if not self._execute(query, (TABLE_PREFIX + namespace,)).fetchone()[0]:
            return False
        self._remember(namespace)
        return True

    def _remember(self, namespace: str) -> None:
        self._known.add(namespace)  # seen in a snapshot: committed, and never dropped

    def _execute(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        self._check_usable()
        try:
            return self._connection.execute(sql, values)
        except FAILURES as error:
            self._check_cancelled()  # then it was interrupted
            raise self._failed(error) from error

    def _rows_of(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """All rows. The statement goes as far as the first; the others may fail too."""
        cursor = self._execute(sql, values)
        try:
            return cursor.fetchall()
        except FAILURES as error:
            self._check_cancelled()
            raise self._failed(error) from error

    def _failed(self, error: Failure) -> GravitonError:
        return translate(error, self._path, self.operation)

    def _check_usable(self) -> None:
        if self._over:
            raise Unavailable("this transaction is over", operation=self.operation)
        self._check_cancelled()


class WriteView(ReadView):
    """A transaction that can change things; a `Transaction`."""

    operation = "kv.transact"

    def __init__(
        self, connection: sqlite3.Connection, known: set[str], path: str, check_cancelled: Callable[[], None]
    ) -> None:
        super().__init__(connection, known, path, check_cancelled)
        self.seen: set[str] = set()
        """Namespaces found or created here: known to others only once this is committed."""
        self.failure: GravitonError | None = None
        """The first error of SQLite. It may have rolled back already (SQLITE_FULL does), so nothing more is done."""

    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        self.put_many(namespace, ((key, value),))

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        rows = []
        for key, value in items:
            check_key(key)
            check_value(value, MAX_VALUE_BYTES)
            rows.append((key, value, crc32(value, crc32(key))))
        if not rows:
            check_namespace(namespace)
            return
        if not self._exists(namespace):
            self._create(namespace)
        sql = (
            f"INSERT INTO ns_{namespace} (key, value, checksum) VALUES (?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value, checksum = excluded.checksum"
        )
        if len(rows) == 1:
            self._execute(sql, rows[0])
        else:
            self._execute_many(sql, rows)

    def delete(self, namespace: str, key: bytes) -> bool:
        check_key(key)
        if not self._exists(namespace):
            return False
        return self._execute(f"DELETE FROM ns_{namespace} WHERE key = ?", (key,)).rowcount > 0

    def delete_many(self, namespace: str, keys: Sequence[bytes]) -> None:
        for key in keys:
            check_key(key)
        if keys and self._exists(namespace):
            self._execute_many(f"DELETE FROM ns_{namespace} WHERE key = ?", [(key,) for key in keys])

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        if self._exists(namespace):
            below, values = ("", (start,)) if end is None else (" AND key < ?", (start, end))
            self._execute(f"DELETE FROM ns_{namespace} WHERE key >= ?{below}", values)

    def _create(self, namespace: str) -> None:
        self._execute(
            f"CREATE TABLE IF NOT EXISTS ns_{namespace}"
            " (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID"
        )
        self.seen.add(namespace)

    def _exists(self, namespace: str) -> bool:
        return namespace in self.seen or super()._exists(namespace)

    def _remember(self, namespace: str) -> None:
        self.seen.add(namespace)

    def _execute_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._check_usable()
        try:
            self._connection.executemany(sql, rows)
        except FAILURES as error:
            raise self._failed(error) from error

    def _failed(self, error: Failure) -> GravitonError:
        self.failure = super()._failed(error)
        return self.failure

    def _check_usable(self) -> None:
        if self._over or self.failure is not None:
            super()._check_usable()
            raise self.failure or self._refusal()
        self._check_cancelled()


def _range(prefix: bytes, after: bytes | None) -> tuple[str, tuple[bytes, ...]]:
    """The WHERE clause for keys that begin with `prefix` and are greater than `after`."""
    conditions: list[str] = []
    values: list[bytes] = []
    if after is not None and after >= prefix:
        conditions.append("key > ?")
        values.append(after)
    elif prefix:
        conditions.append("key >= ?")
        values.append(prefix)
    end = prefix_end(prefix)
    if end is not None:
        conditions.append("key < ?")
        values.append(end)
    return (" WHERE " + " AND ".join(conditions) if conditions else ""), tuple(values)
