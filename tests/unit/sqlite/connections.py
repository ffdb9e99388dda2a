"""Connections that fail, stop or kill the process at a chosen statement."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from typing import Any

from graviton.backends.sqlite._connection import Connect
from graviton.backends.sqlite.config import SqliteConfig

Step = Callable[[str], None]


def stepping(step: Step) -> Connect:
    """A `connect` whose connections call `step(sql)` before each statement."""

    class Stepping(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            step(sql)
            return super().execute(sql, *args)

        def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
            step(sql)
            return super().executemany(sql, *args)

    def connect(name: str, config: SqliteConfig) -> sqlite3.Connection:
        connection = sqlite3.connect(
            name,
            uri=True,
            timeout=config.busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
            factory=Stepping,
        )
        connection.text_factory = bytes
        return connection

    return connect


def sqlite_error(code: int, name: str) -> sqlite3.OperationalError:
    """What the sqlite3 module raises for that result code."""
    error = sqlite3.OperationalError("planned")
    error.sqlite_errorcode = code
    error.sqlite_errorname = name
    return error


class KillAt:
    """The n-th statement of the process is the last thing it begins."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def __call__(self, sql: str) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
