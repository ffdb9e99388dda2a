"""The connections of a writer: one that writes, and one that moves pages of the WAL while the first keeps other writers
away (_wal_care.py). They are opened when they are needed, and dropped together when one of them is of no use any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from graviton.backends.sqlite._wal import Wal
from graviton.backends.sqlite.errors import FSYNC_FAILED
from graviton.errors import Unavailable

__all__ = ["OPERATION", "WriteConnections"]

OPERATION: Final = "kv.transact"


class WriteConnections:
    """Used by one thread at a time. Statements raise FAILURES, opening raises what it raises."""

    def __init__(self, wal: Wal, path: str, open_connection: Callable[[], sqlite3.Connection]) -> None:
        """`wal` is the log they write: another file, maybe, once they are closed."""
        self._wal = wal
        self._path = path
        self._open = open_connection
        self._writing: sqlite3.Connection | None = None
        self._moving: sqlite3.Connection | None = None
        self._full: bool | None = None
        """Whether `synchronous` is FULL now; None: not set yet."""
        self.is_suspect = False
        """The disk failed in a commit or a checkpoint: the WAL may have a hole; see `WalCare.mend`."""

    @property
    def is_open(self) -> bool:
        """Whether there is one that writes."""
        return self._writing is not None

    def writing(self) -> sqlite3.Connection:
        """The one that writes."""
        if self._writing is None:
            self._writing = self._open()
            self._full = None
        return self._writing

    def moving(self) -> sqlite3.Connection:
        """The one that moves pages."""
        if self._moving is None:
            self._moving = self._open()
        return self._moving

    def begin(self, full: bool) -> None:
        """Begin a transaction, whose commit waits for the disk if `full`."""
        connection = self.writing()
        if full is not self._full:
            connection.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}").fetchone()
            self._full = full
        connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """End it. After an error it is to be rolled back."""
        try:
            self.writing().execute("COMMIT")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) in FSYNC_FAILED:
                self.is_suspect = True
            raise

    def roll_back(self) -> bool:
        """Take it back, if there is one. False if that failed: such a connection is of no use, the next transaction
        begins with a new one, and SQLite forgets what was not committed."""
        try:
            if self._writing is not None and self._writing.in_transaction:
                self._writing.execute("ROLLBACK")
        except sqlite3.Error:
            self.is_suspect = True
            self.drop()
            return False
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """In a transaction that writes nothing, which keeps the writers of all processes away. Raises Unavailable if
        that could not be taken back."""
        self.writing().execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            taken_back = self.roll_back()
        if not taken_back:
            raise Unavailable(
                f"a transaction on {self._path} could not be taken back", operation=OPERATION, subject=self._path
            )

    def drop(self) -> None:
        """Close both."""
        connections = self._moving, self._writing
        self._moving = self._writing = None
        self._wal.close()
        for connection in connections:
            if connection is not None:
                connection.close()
