"""The reading threads of a store, each with its connection; readers never wait for writers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from graviton.backends.sqlite._forks import in_use
from graviton.backends.sqlite._transaction import ReadView
from graviton.backends.sqlite.errors import FAILURES, translate
from graviton.concurrency.calls import deliver
from graviton.concurrency.crew import Crew
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.view_calls import ViewCall

__all__ = ["Readers"]

OPERATION = "kv.read"


class Readers:
    """Up to `limit` threads; a read that takes long does not stop short ones."""

    def __init__(
        self, path: str, limit: int, open_connection: Callable[[], sqlite3.Connection], lifetime: Lifetime
    ) -> None:
        self._path = path
        self._open = open_connection
        self._crew: Crew[ViewCall[Any]] = Crew(limit, "graviton-sqlite-reader", self._work, lifetime)

    def submit(self, call: ViewCall[Any]) -> None:
        """Queue a call. Raises Unavailable if the store may not be used, or there is no thread and none to be had."""
        self._crew.post(call)

    def stop(self) -> Sequence[threading.Thread]:
        """Let the calls that were accepted finish, then close the connections; the threads to wait for."""
        return self._crew.end()

    def _work(self, calls: Iterable[ViewCall[Any]]) -> None:
        with in_use(self._path):
            self._serve(calls)

    def _serve(self, calls: Iterable[ViewCall[Any]]) -> None:
        connection: sqlite3.Connection | None = None
        known: set[str] = set()
        try:
            for call in calls:
                if call.take():
                    try:
                        connection = connection or self._open()
                        call.result = self._run(connection, known, call)
                    except BaseException as error:  # noqa: BLE001 - delivered to the caller
                        call.error = error
                    if connection is not None and connection.in_transaction:
                        connection.close()  # it could not end its transaction: the next read opens a new one
                        connection = None
                    deliver((call,))
                del call  # it holds what belongs to the caller
        finally:
            if connection is not None:
                connection.close()

    def _run(self, connection: sqlite3.Connection, known: set[str], call: ViewCall[Any]) -> Any:
        view = ReadView(connection, known, self._path, call.check)
        try:
            connection.execute("BEGIN")
        except FAILURES as error:
            raise translate(error, self._path, OPERATION) from error
        try:
            return call.fn(view)
        finally:
            view.finish()
            # Not COMMIT: that fails if SQLite met damage since BEGIN, also where `fn` got past it or says it better.
            with suppress(*FAILURES):  # what is still in its transaction is closed by `_serve`
                connection.execute("ROLLBACK")
