"""What the writing thread of a store does, and group commit.

Calls that wait at the same moment run one after the other over one overlay, each seeing what those before it changed,
and share one write and one sync. The failure of a call undoes only its own changes; a write that fails, fails them all.
They are not run again one by one, as SQLite's are: RocksDB does not roll back, so what failed may be found after all
when the store is opened again, and would have happened twice.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from graviton.backends.rocksdb._database import Database
from graviton.backends.rocksdb._overlay import Overlay
from graviton.backends.rocksdb._shared import RocksCall, Shared
from graviton.backends.rocksdb._views import WriteView
from graviton.concurrency.calls import CallCancelled, deliver, own_copy
from graviton.errors import Unavailable

__all__ = ["OPERATION", "Writer"]

OPERATION: Final = "kv.transact"

_GROUP_BYTES: Final = 8 * 1024 * 1024
"""Bytes written after which a group is committed, so that it does not grow with the number of its calls."""


class Writer:
    """The `GroupWork` of a store's writing thread."""

    def __init__(self, shared: Shared, sync_writes: bool) -> None:
        self._shared = shared
        self._sync_writes = sync_writes

    def run(self, calls: list[RocksCall[Any]]) -> None:
        while calls:
            calls = calls[self._run_some(calls) :]

    def _run_some(self, calls: list[RocksCall[Any]]) -> int:
        """Run calls from the first on, as many as share a commit; how many that were."""
        overlay = Overlay()
        done: list[RocksCall[Any]] = []
        count = 0
        try:
            database = self._shared.for_writing(lambda: _check_wanted(calls), max(call.since for call in calls))
            for call in calls:
                count += 1
                if call.cancelled:
                    call.error = _outcome(CallCancelled())
                elif self._run_one(database, overlay, call):
                    done.append(call)
                if overlay.size >= _GROUP_BYTES:
                    break
            if overlay.tables:
                full = self._sync_writes and any(call.full for call in done)
                database.write(overlay.tables, full)
        except BaseException as error:  # noqa: BLE001 - the thread must live, and every caller be told
            for call in done if count else calls:
                call.result, call.error = None, _outcome(own_copy(error))
            return count or len(calls)
        return count

    def _run_one(self, database: Database, overlay: Overlay, call: RocksCall[Any]) -> bool:
        """Run one call; whether it wants to be committed."""
        overlay.begin()
        view = WriteView(database, database.present(), overlay, call.check)
        try:
            call.result = call.fn(view)
            if view.failure is not None:  # the function swallowed it
                raise view.failure
            call.check()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            call.result, call.error = None, _outcome(error)
            overlay.undo()
            return False
        finally:
            view.finish()
        return True

    def is_care_due(self) -> bool:
        return False

    def care(self, has_run: bool) -> None:
        pass

    def in_use(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        self._shared.close()


def _outcome(error: BaseException) -> BaseException:
    return Unavailable("cancelled") if isinstance(error, CallCancelled) else error


def _check_wanted(calls: list[RocksCall[Any]]) -> None:
    """While the group waits for the database: who was cancelled waits no longer, and will not be run."""
    cancelled = [call for call in calls if call.cancelled]
    deliver(cancelled)
    if len(cancelled) == len(calls):
        raise CallCancelled
