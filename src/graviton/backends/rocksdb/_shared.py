"""The one database of a store, which its threads share: opened by who needs it first, and again after an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from graviton.backends.rocksdb._claims import somebody_has_it
from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._moments import Moment
from graviton.backends.rocksdb._opening import HeldError, open_database, open_for_writing
from graviton.backends.rocksdb.config import RocksConfig
from graviton.concurrency.view_calls import ViewCall
from graviton.errors import Retry, Unavailable

__all__ = ["RocksCall", "Shared"]

_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.05
"""How often the lock of another process is tried again, and who waits for another thread looks whether it should."""

CheckWanted = Callable[[], None]
"""Raises if nobody waits for the outcome any more."""


class RocksCall(ViewCall[_T]):
    """A call that knows when it was made: calls that wait for the lock of another process wait together."""

    __slots__ = ("since",)

    def __init__(self, fn: Callable[[Any], _T], full: bool) -> None:
        super().__init__(fn, full)
        self.since = time.monotonic()


class Shared:
    """From any thread. What is open is closed by `close`, after which what is asked for is refused. `since` is when the
    call was made that needs the database: from then on counts the time to wait for another process."""

    def __init__(self, config: RocksConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        """Held while the database is opened or closed, but not while one waits for another process."""
        self._is_ending = threading.Event()
        self._database: Database | None = None
        self._is_closed = False

    @contextmanager
    def view(self, check_wanted: CheckWanted, since: float) -> Iterator[tuple[Database, Moment]]:
        """The database and a moment of it, for reading. Raises what opening raises."""
        while True:
            database = self._database or self._waited_for(self._for_reading, check_wanted, since)
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

    def for_writing(self, check_wanted: CheckWanted, since: float) -> Database:
        """The database, which can be written. Raises what opening raises, and why it cannot."""
        database = self._database
        if database is not None and not database.is_broken and database.refusal is None:
            return database
        return self._waited_for(self._for_writing, check_wanted, since)

    def end_waits(self) -> None:
        """From now on nobody waits for another process."""
        self._is_ending.set()

    def _waited_for(
        self, opened: Callable[[CheckWanted], Database], check_wanted: CheckWanted, since: float
    ) -> Database:
        patience = self._config.lock_wait_seconds
        while True:
            with self._turn(check_wanted):
                if self._is_closed:
                    raise Unavailable("this metadata store is closed", operation="kv", retry=Retry.PERMANENT)
                try:
                    return opened(check_wanted)
                except HeldError as error:
                    by = error.by
            waited = time.monotonic() - since
            if waited >= patience or self._is_ending.is_set():
                raise somebody_has_it(str(self._config.path), by, min(round(waited, 1), patience))
            check_wanted()
            self._is_ending.wait(_POLL_SECONDS)

    @contextmanager
    def _turn(self, check_wanted: CheckWanted) -> Iterator[None]:
        while not self._lock.acquire(timeout=_POLL_SECONDS):
            check_wanted()
        try:
            yield
        finally:
            self._lock.release()

    def _for_writing(self, check_wanted: CheckWanted) -> Database:
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
            self._is_closed = True
            database, self._database = self._database, None
            if database is not None:
                database.close(patient=True)
