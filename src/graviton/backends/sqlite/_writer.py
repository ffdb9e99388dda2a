"""What the writing thread of a store does, and group commit.

Calls that wait at the same moment share one transaction and one commit, each inside a savepoint of its own, so that
the failure of one undoes only that one. A single call, the usual case, has no savepoint. If SQLite gives up the whole
transaction (no room, I/O error), each call of the group is run again by itself; the port allows running it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from graviton.backends.sqlite._forks import in_use
from graviton.backends.sqlite._transaction import WriteView
from graviton.backends.sqlite._wal import Wal
from graviton.backends.sqlite._wal_care import WalCare
from graviton.backends.sqlite._write_connections import OPERATION, WriteConnections
from graviton.backends.sqlite.config import SqliteConfig
from graviton.backends.sqlite.errors import FAILURES, READONLY, primary_code, translate
from graviton.concurrency.calls import CallCancelled, own_copy
from graviton.concurrency.view_calls import ViewCall
from graviton.errors import GravitonError, Unavailable
from graviton.metadata.local_files import translate_os

__all__ = ["Writer"]


class _GroupUndoneError(Exception):
    """SQLite rolled the whole group back; nothing of it took effect."""


class Writer:
    """Runs write transactions one group after the other: the `GroupWork` of a store's writing thread."""

    def __init__(self, config: SqliteConfig, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._path = str(config.path)
        wal = Wal(self._path, config.checkpoint_pages)
        self._connections = WriteConnections(wal, self._path, open_connection)
        self._care = WalCare(wal, self._connections)
        self._known: set[str] = set()
        self._has_mended_in_vain = False
        """The group that was just run tried to mend the WAL and could not."""

    def is_care_due(self) -> bool:
        return self._care.is_due()

    def care(self, has_run: bool) -> None:
        if not (has_run and self._has_mended_in_vain):
            self._care.look()

    def in_use(self) -> AbstractContextManager[None]:
        return in_use(self._path)

    def close(self) -> None:
        # Whoever closes the last connection of all moves the WAL into the file; SQLite would, too, and drop errors.
        self._care.look(closing=True)
        self._connections.drop()

    def run(self, calls: list[ViewCall[Any]]) -> None:
        was_suspect = self._connections.is_suspect
        self._run(calls)
        self._has_mended_in_vain = was_suspect and self._connections.is_suspect

    def _run(self, calls: list[ViewCall[Any]]) -> None:
        try:
            self._run_group(calls)
        except _GroupUndoneError:
            for call in calls:
                call.error = None  # also what failed by itself: it may have seen changes that are undone now
                self._run_alone(call)
        except BaseException as error:  # noqa: BLE001 - the thread must live, and every caller be told
            for call in calls:
                if call.error is None:
                    call.error = own_copy(error)

    def _run_alone(self, call: ViewCall[Any]) -> None:
        try:
            self._run_group([call])
        except BaseException as error:  # noqa: BLE001 - as above
            call.error = error

    def _run_group(self, calls: list[ViewCall[Any]]) -> None:
        """One transaction for all; each call gets its result or its own error. Raises what concerns all of them."""
        connection = self._begin(any(call.full for call in calls))
        seen: set[str] = set()
        done = 0
        try:
            for call in calls:
                done += self._run_one(connection, call, seen, in_group=len(calls) > 1)
            if not done:
                self._connections.roll_back()
                return
            self._commit()
        except BaseException as error:
            self._connections.roll_back()
            if len(calls) > 1 and isinstance(error, GravitonError):
                raise _GroupUndoneError from error
            raise
        self._known |= seen

    def _begin(self, full: bool) -> sqlite3.Connection:
        connection = self._connections.writing()
        try:
            if self._connections.is_suspect:
                self._care.mend()
            self._connections.begin(full)
        except FAILURES as error:
            if primary_code(error) == READONLY:
                # SQLite opens a file only for reading, and does not say so, when opening it for writing failed at that
                # moment (no handles, a full disk): the next transaction tries again with a connection of its own.
                self._connections.drop()
            raise translate(error, self._path, OPERATION) from error
        except OSError as error:
            raise translate_os(error, self._path, OPERATION, "write again the -wal of") from error
        return connection

    def _run_one(self, connection: sqlite3.Connection, call: ViewCall[Any], seen: set[str], in_group: bool) -> int:
        """Run one call; 1 if it wants to be committed, 0 if it failed and was undone."""
        view = WriteView(connection, self._known, self._path, call.check)
        view.seen |= seen
        try:
            if in_group:
                self._execute(connection, "SAVEPOINT one")
            result = call.fn(view)
            if view.failure is not None:  # the function swallowed an error of the store
                raise view.failure
            view.finish()
            if in_group:
                self._execute(connection, "RELEASE one")
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            view.finish()
            return self._undo_one(connection, call, error, in_group)
        call.result = result
        seen |= view.seen
        return 1

    def _undo_one(
        self, connection: sqlite3.Connection, call: ViewCall[Any], error: BaseException, in_group: bool
    ) -> int:
        if in_group and not connection.in_transaction:
            raise _GroupUndoneError from error
        call.error = Unavailable("cancelled") if isinstance(error, CallCancelled) else error
        if in_group:
            try:
                connection.execute("ROLLBACK TO one")
                connection.execute("RELEASE one")
            except sqlite3.Error as problem:
                raise _GroupUndoneError from problem
        return 0

    def _execute(self, connection: sqlite3.Connection, sql: str) -> None:
        try:
            connection.execute(sql)
        except FAILURES as error:
            raise translate(error, self._path, OPERATION) from error

    def _commit(self) -> None:
        try:
            self._connections.commit()
        except FAILURES as error:
            raise translate(error, self._path, OPERATION) from error
