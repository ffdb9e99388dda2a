"""Keeping the write-ahead log short, and mending it after an error of the disk."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from graviton.backends.sqlite._wal import Wal
from graviton.backends.sqlite._write_connections import WriteConnections
from graviton.backends.sqlite.errors import FULL, primary_code

__all__ = ["WalCare"]


class WalCare:
    """Of the log that these connections write; used by the thread that uses them."""

    def __init__(self, wal: Wal, connections: WriteConnections) -> None:
        self._wal = wal
        self._connections = connections

    def is_due(self) -> bool:
        """Whether `look` has something to do."""
        return self._connections.is_suspect or self._wal.is_long()

    def look(self, closing: bool = False) -> None:
        """Between transactions, when the results are on their way: keep the log short, and mend it if it may be broken.

        Nobody waits for this, so nobody can be told of an error. None needs to: what was acknowledged is as durable as
        it was said to be without a checkpoint, and what fails here is done again before the next transaction, which
        fails with it if it fails again.
        """
        connections = self._connections
        if not connections.is_open:
            return
        if not connections.is_suspect and (closing or self._wal.is_long()):
            with suppress(Exception):
                self._checkpoint()
        if connections.is_suspect and connections.is_open:
            with suppress(Exception):
                self.mend()

    def _checkpoint(self) -> None:
        """Move what no reader holds from the log into the file, waiting for no reader. Raises FAILURES, Unavailable and
        what opening a connection raises.

        Under the write lock, which needs two connections: SQLite before 3.51.3 may count pages as moved that are not
        if somebody begins the WAL anew during a checkpoint (the WAL-reset bug, https://sqlite.org/wal.html).
        """
        pages = -1  # also if another process is at it now
        try:
            moving = self._connections.moving()
            with self._connections.locked():
                pages = self._move_pages(moving)
        finally:
            self._wal.back_off(pages)

    def _move_pages(self, connection: sqlite3.Connection) -> int:
        """Pages in the log; -1 if that is not known."""
        try:
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except BaseException as error:
            # For want of room nothing is lost, it stays in the WAL. Any other error may be one of a sync.
            if isinstance(error, sqlite3.Error) and primary_code(error) == FULL:
                return -1
            self._connections.is_suspect = True
            raise
        return int(pages)

    def mend(self) -> None:
        """After an error of the disk nothing may be committed on top of the log as it is: the system reports a failed
        write-back once and then calls the lost pages clean, so the next fsync would succeed over a WAL with a hole.

        All of it is written again, from what is still in memory, and only then moved into the file: with half of that
        done and a hole in the WAL a power cut would leave a file that nothing completes. Raises as `_checkpoint`, and
        OSError.
        """
        with self._connections.locked():
            self._wal.write_again()
        self._checkpoint()
        self._connections.is_suspect = False
