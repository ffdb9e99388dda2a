"""The reading threads of a store, and the connections they share; readers never wait for writers.

A thread that may block (concurrency/blocking.py) reads where it is, with one of these connections. They are in the care
of the reading threads all the same, of which one is begun for that: what a fork cuts off must never be taken apart
(_forks.py), and the frame of a thread is not.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from graviton.backends.sqlite._forks import in_use
from graviton.backends.sqlite._transaction import ReadView
from graviton.backends.sqlite.errors import FAILURES, translate
from graviton.concurrency.calls import deliver
from graviton.concurrency.crew import Crew
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.view_calls import ViewCall

__all__ = ["Readers"]

OPERATION: Final = "kv.read"


class Readers:
    """Up to `limit` threads; a read that takes long does not stop short ones."""

    def __init__(
        self, path: str, limit: int, open_connection: Callable[[], sqlite3.Connection], lifetime: Lifetime
    ) -> None:
        self._lifetime = lifetime
        self._connections = _Connections(path, open_connection)
        self._crew: Crew[ViewCall[Any]] = Crew(limit, "graviton-sqlite-reader", self._serve, lifetime)

    def submit(self, call: ViewCall[Any]) -> None:
        """Queue a call. Raises Unavailable if the store may not be used, or there is no thread and none to be had."""
        self._crew.post(call)

    def run(self, call: ViewCall[Any]) -> None:
        """Run a call on this thread, which may block, and give it its outcome. Raises as `submit`."""
        self._lifetime.check()  # first: in a child made by fork a lock may be held for ever
        with self._connections.kept():
            self._crew.begin()
            self._connections.wait_for_care()
            self._connections.run(call)

    def stop(self) -> Sequence[threading.Thread]:
        """Let the calls that were accepted finish, then close the connections; the threads to wait for."""
        return self._crew.end()

    def _serve(self, calls: Iterable[ViewCall[Any]]) -> None:
        with self._connections.cared_for():
            for call in calls:
                if call.take():
                    self._connections.run(call)
                    deliver((call,))
                del call  # it holds what belongs to the caller


class _Connection(NamedTuple):
    """One that is open."""

    to: sqlite3.Connection
    known: set[str]
    """Namespaces that it has seen."""


class _Connections:
    """Those that are open: as many as there were readers at one moment."""

    def __init__(self, path: str, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._open = open_connection
        self._idle: list[_Connection] = []
        self._begun = threading.Event()
        """A thread that cares for them has come so far that it does."""
        self._changed = threading.Condition()
        self._carers = 0
        self._guests = 0
        """Reads on threads of others, before whose end nothing is closed."""

    @contextmanager
    def cared_for(self) -> Iterator[None]:
        """Around all that a reading thread does. The last one of them to end closes what is open."""
        with in_use(self._path):
            with self._changed:
                self._carers += 1
            self._begun.set()
            try:
                yield
            finally:
                with self._changed:
                    self._carers -= 1
                    self._changed.wait_for(lambda: self._carers or not self._guests)
                    while self._idle and not self._carers:
                        self._idle.pop().to.close()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around all that another thread does."""
        with self._changed:
            self._guests += 1
        try:
            yield
        finally:
            with self._changed:
                self._guests -= 1
                self._changed.notify_all()

    def wait_for_care(self) -> None:
        """Until a thread that was begun has come so far that it cares."""
        self._begun.wait()

    def run(self, call: ViewCall[Any]) -> None:
        """Give a call its outcome."""
        try:
            connection = self._take()
        except BaseException as error:  # noqa: BLE001 - delivered to the caller
            call.error = error
            return
        try:
            call.result = self._read(connection, call)
        except BaseException as error:  # noqa: BLE001 - delivered to the caller
            call.error = error
        if connection.to.in_transaction:
            connection.to.close()  # it could not end its transaction: the next read opens a new one
        else:
            self._idle.append(connection)

    def _take(self) -> _Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return _Connection(self._open(), set())

    def _read(self, connection: _Connection, call: ViewCall[Any]) -> Any:
        view = ReadView(connection.to, connection.known, self._path, call.check)
        try:
            connection.to.execute("BEGIN")
        except FAILURES as error:
            raise translate(error, self._path, OPERATION) from error
        try:
            return call.fn(view)
        finally:
            view.finish()
            # Not COMMIT: that fails if SQLite met damage since BEGIN, also where `fn` got past it or says it better.
            with suppress(*FAILURES):  # what is still in its transaction is closed by `run`
                connection.to.execute("ROLLBACK")
