"""The one database of a store, which its threads share: opened by who needs it first, and again after an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._moments import Moment
from graviton.backends.rocksdb._opening import open_database, open_for_writing
from graviton.backends.rocksdb.config import RocksConfig

__all__ = ["Shared"]

CheckWanted = Callable[[], None]
"""Raises if nobody waits for the outcome any more."""


class Shared:
    """From any thread. What is open is closed by `close`, after which nothing may be asked for."""

    def __init__(self, config: RocksConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        """Held while the database is opened or closed, so also while one waits for another process."""
        self._database: Database | None = None

    @contextmanager
    def view(self, check_wanted: CheckWanted) -> Iterator[tuple[Database, Moment]]:
        """The database and a moment of it, for reading. Raises what opening raises."""
        while True:
            database = self._database or self._for_reading(check_wanted)
            moment = database.begin()
            if moment is not None:
                break
            self._forget(database)
        try:
            yield database, moment
        finally:
            database.end(moment)

    @contextmanager
    def look(self) -> Iterator[tuple[Database, Moment] | None]:
        """The same if it is open, else None."""
        database = self._database
        moment = None if database is None else database.begin()
        if database is None or moment is None:
            yield None
            return
        try:
            yield database, moment
        finally:
            database.end(moment)

    def for_writing(self, check_wanted: CheckWanted) -> Database:
        """The database, which can be written. Raises what opening raises, and why it cannot."""
        database = self._database
        if database is not None and not database.is_broken and database.refusal is None:
            return database
        with self._lock:
            before = self._database
            if before is not None and before.refusal is None:
                if not before.is_broken:
                    return before  # somebody else was here meanwhile
                before.close()  # raises if a read keeps it open, and is tried again
                self._database = None
            self._database = open_for_writing(self._config, check_wanted)
            if before is not None and before.refusal is not None:
                before.retire()  # it was only looked at, and those who do may finish
            return self._database

    def _for_reading(self, check_wanted: CheckWanted) -> Database:
        with self._lock:
            if self._database is None:
                self._database = open_database(self._config, check_wanted)
            return self._database

    def _forget(self, database: Database) -> None:
        """It was closed for an error: the next one opens it again."""
        with self._lock:
            if self._database is database:
                database.close()
                self._database = None

    def close(self) -> None:
        """Close what is open, once the last view has ended."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close(patient=True)
