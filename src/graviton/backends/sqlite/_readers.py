"""The reading threads of a store, each with its connection; readers never wait for writers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from graviton.backends.sqlite._calls import ViewCall
from graviton.backends.sqlite._forks import in_use
from graviton.backends.sqlite._transaction import ReadView
from graviton.backends.sqlite.errors import FAILURES, translate
from graviton.concurrency.calls import deliver
from graviton.concurrency.threads import started
from graviton.errors import Unavailable

__all__ = ["Readers"]

OPERATION = "kv.read"


class Readers:
    """Threads begin when reads wait and none is free, so a long read does not stop short ones."""

    def __init__(self, path: str, limit: int, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._limit = limit
        self._open = open_connection
        self._queue: SimpleQueue[ViewCall[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._pending = 0

    def submit(self, call: ViewCall[Any]) -> None:
        """Queue a call. Raises Unavailable if there is no thread and none to be had."""
        with self._lock:
            if self._pending >= len(self._threads) < self._limit:
                try:
                    self._threads.append(started(self._work, f"graviton-sqlite-reader-{len(self._threads)}"))
                except Unavailable:
                    if not self._threads:
                        raise
            self._pending += 1
        self._queue.put(call)

    def stop(self) -> list[threading.Thread]:
        """Let the calls that were accepted finish, then close the connections; the threads to wait for."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        return threads

    def _work(self) -> None:
        with in_use(self._path):
            self._serve()

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        known: set[str] = set()
        try:
            while (call := self._queue.get()) is not None:
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
                del call
                with self._lock:
                    self._pending -= 1
        finally:
            if connection is not None:
                connection.close()

    def _run(self, connection: sqlite3.Connection, known: set[str], call: ViewCall[Any]) -> Any:
        view = ReadView(connection, known, self._path, call.check)
        self._execute(connection, "BEGIN")
        try:
            return call.fn(view)
        finally:
            view.finish()
            self._execute(connection, "COMMIT")

    def _execute(self, connection: sqlite3.Connection, sql: str) -> None:
        try:
            connection.execute(sql)
        except FAILURES as error:
            raise translate(error, self._path, OPERATION) from error
