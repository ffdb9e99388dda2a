"""The thread that writes to a store, and group commit.

Calls that wait at the same moment share one transaction and one commit, each inside a savepoint of its own, so that
the failure of one undoes only that one. A single call, the usual case, has no savepoint. If SQLite gives up the whole
transaction (no room, I/O error), each call of the group is run again by itself; the port allows running it again.

A thread that may block (concurrency/blocking.py) uses the connections where it is, in its turn.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from graviton.backends.sqlite._calls import ViewCall
from graviton.backends.sqlite._forks import in_use
from graviton.backends.sqlite._transaction import WriteView
from graviton.backends.sqlite._wal import Wal
from graviton.backends.sqlite._wal_care import WalCare
from graviton.backends.sqlite._write_connections import OPERATION, WriteConnections
from graviton.backends.sqlite.config import SqliteConfig
from graviton.backends.sqlite.errors import FAILURES, READONLY, primary_code, translate, translate_os
from graviton.concurrency.calls import CallCancelled, deliver, own_copy
from graviton.concurrency.threads import started
from graviton.errors import GravitonError, Retry, Unavailable

__all__ = ["Writer"]


class _Look:
    """Asks the thread to look after the WAL."""


_LOOK: Final = _Look()
_Job: TypeAlias = ViewCall[Any] | _Look | None
"""None ends the thread."""


class _GroupUndoneError(Exception):
    """SQLite rolled the whole group back; nothing of it took effect."""


class Writer:
    """Runs write transactions one after the other; the thread begins with the first."""

    def __init__(self, config: SqliteConfig, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._config = config
        self._path = str(config.path)
        wal = Wal(self._path, config.checkpoint_pages)
        self._connections = WriteConnections(wal, self._path, open_connection)
        self._care = WalCare(wal, self._connections)
        self._queue: SimpleQueue[_Job] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()
        self._turn = threading.Lock()
        """Held by the thread that uses the connections."""
        self._is_closed = False
        self._is_asked_to_look = False
        self._known: set[str] = set()

    def submit(self, call: ViewCall[Any]) -> None:
        """Queue a call. The caller makes sure that two threads do not do this at once. Raises Unavailable."""
        self.start()
        self._queue.put(call)

    def start(self) -> None:
        """Begin the thread, which has the connections in its care. As `submit`."""
        if self._thread is None:
            self._thread = started(self._work, "graviton-sqlite-writer")

    def run(self, call: ViewCall[Any]) -> None:
        """Run a call on this thread, which may block, and give it its outcome. After `start`."""
        self._begun.wait()
        with self._turn:
            if self._is_closed:
                raise Unavailable("this metadata store is closed", operation=OPERATION, retry=Retry.PERMANENT)
            self._run([call])
            if not self._is_asked_to_look and self._care.is_due():
                self._is_asked_to_look = True
                self._queue.put(_LOOK)

    def stop(self) -> threading.Thread | None:
        """Let the calls that were accepted finish, then close the connections; the thread to wait for, if any."""
        self._queue.put(None)
        thread, self._thread = self._thread, None
        return thread

    def _work(self) -> None:
        with in_use(self._path):
            self._begun.set()
            try:
                while self._run_next():
                    pass
            finally:
                with self._turn:
                    self._is_closed = True
                    # Whoever closes the last connection of all moves the WAL into the file; SQLite would, too, and drop
                    # errors.
                    self._care.look(closing=True)
                    self._connections.drop()

    def _run_next(self) -> bool:
        jobs = [self._queue.get()]
        while jobs[-1] is not None and len(jobs) < self._config.group_limit:
            try:
                jobs.append(self._queue.get_nowait())
            except Empty:
                break
        calls = [job for job in jobs if isinstance(job, ViewCall)]
        begun = [call for call in calls if call.take()]  # the others were cancelled while they waited
        with self._turn:
            was_suspect = self._connections.is_suspect
            if begun:
                self._run(begun)
                deliver(begun)
            if not (begun and was_suspect and self._connections.is_suspect):  # else mending was just tried in vain
                self._care.look()
            self._is_asked_to_look = False
        return jobs[-1] is not None

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
