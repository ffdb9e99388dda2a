"""`Database`: one opened RocksDB, its namespaces, and what views of it see.

rocksdict gives no view of several column families at one moment: its snapshots are of one each, and their scans show
the present. So a view here sees a `Moment`, the time between two writes. While no write touches a namespace the present
*is* that moment, and reads are plain reads. Before a write changes a namespace, every moment that is still looked at
gets a cursor on it as it is; a read that finds such a cursor when it has ended does not count, and is done again there.
A view that begins while a write is on its way sees the moment before it, so nothing is seen that is not as durable as
it was asked to be. One cursor per namespace and write (2 to 5 us) serves all of them.

A write is two calls: `write`, without sync, holds the GIL, for it only copies; `flush_wal`, which waits for the disk,
does not. `write` with sync would hold it as long as the disk takes, and stop every thread of the process.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from rocksdict import Rdict

from graviton.backends.rocksdb._batches import NAMESPACE_PREFIX, Changes, StalledError, batch_of
from graviton.backends.rocksdb._checkpoint import make_checkpoint
from graviton.backends.rocksdb._claims import Claim
from graviton.backends.rocksdb._cursor import Cursor
from graviton.backends.rocksdb._moments import Family, Moment
from graviton.backends.rocksdb._options import Tuning, writing
from graviton.backends.rocksdb.errors import damaged, is_stall, translate, translated
from graviton.concurrency.calls import own_copy
from graviton.errors import GravitonError, Unavailable

__all__ = ["FAMILY_PREFIX", "Database"]

FAMILY_PREFIX: Final = "ns_"
"""Of the names of column families: RocksDB has one called `default`, which may be the name of a namespace too."""
_STALL_SECONDS: Final = (0.001, 0.05)
"""First and longest pause before a write is tried again that RocksDB would have wait."""
_VIEWS_SECONDS: Final = 2.0
"""How long views may take to notice that what they look at is closed under them."""


class Database:
    """Opened by `_opening.py`. Views from any thread; writes from one at a time."""

    def __init__(
        self,
        root: Rdict,
        path: str,
        families: Iterable[str],
        tuning: Tuning,
        claim: Claim | None,
        stall_timeout_seconds: float = 0.0,
        refusal: GravitonError | None = None,
    ) -> None:
        """`families`: the names of all column families but the default one. With a `refusal` nothing can be written,
        and that is why."""
        self.path = path
        self.tuning = tuning
        self.refusal = refusal
        self.is_broken = False
        """A write failed: RocksDB takes none until it is opened again, and this one may be there or not."""
        self.stalled_seconds = 0.0
        """Time that writes have waited for compaction."""
        self._root = root
        self._claim = claim
        self._stall_timeout = stall_timeout_seconds
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._is_closed = False
        self._is_retired = False
        self._cursors: weakref.WeakSet[Cursor] = weakref.WeakSet()
        self._all = {
            name.removeprefix(FAMILY_PREFIX): Family(root, root.get_column_family(name), name) for name in families
        }
        """Families by namespace, also of namespaces that do not exist yet."""
        try:
            self._moment = Moment(self._existing())
        except BaseException:
            self._close_families()  # who keeps the error keeps this object
            raise
        self._older: list[Moment] = []
        """Moments of the past that somebody looks at."""

    def _existing(self) -> dict[str, Family]:
        names = self._registered()
        for name in sorted(names - self._all.keys()):
            raise damaged(self.path, "metadata.open", f"its namespace {name} has no column family")
        for name in sorted(self._all.keys() - names):
            if self._keys(self._all[name].data, b"", 1):  # written with the registration, or not at all
                raise damaged(self.path, "metadata.open", f"its namespace {name} has rows and is not registered")
        return {name: self._all[name] for name in names}

    def _registered(self) -> set[str]:
        keys = self._keys(self._root, NAMESPACE_PREFIX, None)
        return {key[len(NAMESPACE_PREFIX) :].decode("ascii", "replace") for key in keys}

    def _keys(self, family: Rdict, prefix: bytes, limit: int | None) -> list[bytes]:
        cursor = Cursor(family, self.path, "metadata.open")
        try:
            return [key for page in cursor.scan(prefix, None, limit) for key, _ in page]
        finally:
            cursor.close()

    # Views.

    def begin(self) -> Moment | None:
        """The moment for a view that begins now; `end` it. None if the database is closed."""
        with self._lock:
            if self._is_closed:
                return None
            self._moment.views += 1
            return self._moment

    def end(self, moment: Moment) -> None:
        """A view of `moment` is over."""
        with self._lock:
            moment.views -= 1
            if not moment.views and moment is not self._moment:
                self._older.remove(moment)
                moment.forget()
            self._ended.notify_all()
            is_last = self._is_retired and self._is_left_alone()
        if is_last:
            self.close(patient=True)

    def get_many(self, moment: Moment, namespace: str, keys: Sequence[bytes], operation: str) -> list[bytes | None]:
        """The value under each key at that moment. The namespace exists."""
        with translated(self.path, operation):
            found: list[bytes | None] = moment.families[namespace].data.get(list(keys)) or []
        pinned = moment.pinned.get(namespace)
        return found if pinned is None else pinned.get_many(keys)

    def cursor(self, moment: Moment, namespace: str, operation: str) -> tuple[Cursor, bool]:
        """A cursor on the namespace at that moment, and whether it is the caller's own, to be closed."""
        own = self._new_cursor(moment.families[namespace], operation)
        pinned = moment.pinned.get(namespace)
        if pinned is None:
            return own, True
        own.close()
        return pinned, False

    def _new_cursor(self, family: Family, operation: str) -> Cursor:
        with translated(self.path, operation):
            cursor = Cursor(family.data, self.path, operation)
        self._cursors.add(cursor)
        return cursor

    # Writing.

    def present(self) -> Moment:
        """What the one who writes sees; not to be ended."""
        return self._moment

    def write(self, changes: Changes, full: bool) -> None:
        """Apply all of `changes` and, if `full`, wait until they are on the disk. Raises GravitonError: what had been
        begun may then be found after the next open, as a whole, or not."""
        families = dict(self._moment.families)
        fresh = [namespace for namespace in changes if namespace not in families]
        try:
            for namespace in fresh:
                families[namespace] = self._family(namespace)
            self._pin(changes)
            self._apply(changes, fresh, families)
            if full:
                self._sync()
        except StalledError as error:
            raise error.told(self.path) from None
        except BaseException:
            self.is_broken = True
            raise
        self._publish(families)

    def _family(self, namespace: str) -> Family:
        family = self._all.get(namespace)
        if family is None:
            name = FAMILY_PREFIX + namespace
            with translated(self.path, "kv.transact"):
                family = Family(self._root, self._root.create_column_family(name, self.tuning.options), name)
            self._all[namespace] = family
        return family

    def _pin(self, namespaces: Iterable[str]) -> None:
        with self._lock:
            for namespace in namespaces:
                family = self._moment.families.get(namespace)
                if family is None:
                    continue  # it does not exist in any moment so far
                cursor = self._new_cursor(family, "kv.read")
                for moment in (self._moment, *self._older):
                    if namespace in moment.families:
                        moment.pinned.setdefault(namespace, cursor)

    def _apply(self, changes: Changes, fresh: Sequence[str], families: Mapping[str, Family]) -> None:
        waited = 0.0
        pause, longest = _STALL_SECONDS
        while True:
            batch = batch_of(changes, fresh, families)
            try:
                self._root.write(batch, writing())
                return
            except Exception as error:
                if not is_stall(error):
                    raise translate(error, self.path, "kv.transact") from error
            if waited >= self._stall_timeout:
                raise StalledError(waited)
            time.sleep(pause)
            waited += pause
            self.stalled_seconds += pause
            pause = min(pause * 2, longest)

    def _sync(self) -> None:
        with translated(self.path, "kv.transact"):
            self._root.flush_wal(True)

    def _publish(self, families: Mapping[str, Family]) -> None:
        with self._lock:
            before, self._moment = self._moment, Moment(families)
            if before.views:
                self._older.append(before)
            else:
                before.forget()

    # Everything else.

    def checkpoint(self, folder: str) -> None:
        """See `RocksKeyValueStore.checkpoint`."""
        if self.refusal is not None:
            raise own_copy(self.refusal)
        make_checkpoint(self._root, [family.data for family in list(self._all.values())], self.path, folder)

    def roots(self) -> tuple[Rdict, Mapping[str, Family]]:
        """RocksDB's own objects, for measuring."""
        return self._root, dict(self._all)

    def retire(self) -> None:
        """Let no view begin any more, and close when the last has ended."""
        with self._lock:
            self._is_closed = self._is_retired = True
            is_last = self._is_left_alone()
        if is_last:
            self.close(patient=True)

    def close(self, *, patient: bool = False) -> None:
        """Give everything back, the lock last, when no view looks any more: to be called again if it raises Unavailable
        because one goes on. `patient` waits for them however long it takes; otherwise they are told to end.

        What RocksDB says while it closes is told to nobody, because nobody waits for it: what was acknowledged is in
        the log, as durable as was asked for, whether or not the memtables could be written out.
        """
        with self._ended:
            self._is_closed = True
            for cursor in [] if patient else list(self._cursors):
                cursor.close()
            if not self._ended.wait_for(self._is_left_alone, None if patient else _VIEWS_SECONDS):
                raise Unavailable(
                    f"{self.path} has to be opened again after an error, and a read that goes on keeps it open",
                    operation="kv.transact",
                    subject=self.path,
                    hint="Try again when that read has ended.",
                )
            self._moment.forget()
            for cursor in list(self._cursors):  # that somebody keeps, with an error say
                cursor.close()
        self._close_families()
        with suppress(Exception):
            self._root.close()
        if self._claim is not None:
            self._claim.give_back()

    def _close_families(self) -> None:
        for family in self._all.values():
            with suppress(Exception):
                family.close()
        self._all.clear()

    def _is_left_alone(self) -> bool:
        return not self._moment.views and not self._older
