"""`RocksKeyValueStore`: many small writes on one machine, in one process, on RocksDB (rocksdict).

Writes go through one thread, so transactions are serialised; what they change is held in memory until they commit.
Reads go through a few others and wait for nobody. docs/rocksdb.md has the design.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from graviton.backends.rocksdb._checking import check_files
from graviton.backends.rocksdb._overlay import MAX_TRANSACTION_BYTES
from graviton.backends.rocksdb._shared import RocksCall, Shared
from graviton.backends.rocksdb._views import MAX_VALUE_BYTES, ReadView
from graviton.backends.rocksdb._writer import OPERATION, Writer
from graviton.backends.rocksdb.config import RocksConfig
from graviton.backends.rocksdb.metrics import RocksMetrics
from graviton.concurrency.blocking import may_block
from graviton.concurrency.calls import deliver
from graviton.concurrency.crew import Crew
from graviton.concurrency.group_thread import GroupThread
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined, started
from graviton.concurrency.view_calls import done_by
from graviton.ports.capabilities import Capabilities
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

__all__ = ["RocksKeyValueStore"]

_T = TypeVar("_T")

_FORK_HINT = (
    "Open the store only after the fork, or start the process another way (multiprocessing: spawn): RocksDB's threads"
    " do not survive a fork."
)


class RocksKeyValueStore(KeyValueStore):
    """Key-value pairs in one RocksDB database. Making the object touches nothing; the database is opened, and made if
    the configuration says so, by the first call. Usable from several threads and event loops, by one process at a time.
    Not in a child made by fork."""

    capabilities = Capabilities(
        persistent=True,
        durable=True,
        runs_in_place=True,
        conditional_put=True,
        max_value_bytes=MAX_VALUE_BYTES,
        max_transaction_bytes=MAX_TRANSACTION_BYTES,
    )

    def __init__(self, config: RocksConfig, metrics: RocksMetrics | None = None) -> None:
        self.config = config
        if not config.sync_writes:
            self.capabilities = self.capabilities._replace(durable=False)
        self._metrics = metrics
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._lifetime = Lifetime("metadata store", "kv", subject=str(config.path), fork_hint=_FORK_HINT)
        self._shared = shared = Shared(config)
        self._writer: GroupThread[RocksCall[Any]] = GroupThread(
            Writer(shared, config.sync_writes), config.group_limit, "graviton-rocksdb-writer", OPERATION
        )
        self._readers: Crew[RocksCall[Any]] = Crew(
            config.max_readers, "graviton-rocksdb-reader", partial(_serve, shared), self._lifetime
        )
        self._forget = None if metrics is None else metrics.watch(shared)
        # Forgotten without aclose. Not at the exit of the process, which would cut the threads off within RocksDB.
        weakref.finalize(self, _abandon, shared, self._writer, self._readers).atexit = False

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        if self._metrics is None:
            return await self._transact(fn, durability)
        return await self._metrics.timed("transact", self._transact(fn, durability))

    async def _transact(self, fn: Callable[[Transaction], _T], durability: Durability) -> _T:
        call: RocksCall[_T] = RocksCall(fn, durability is Durability.FULL)
        return await done_by(self._writer, call, self._lock, self._lifetime)

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        if self._metrics is None:
            return await self._read(fn)
        return await self._metrics.timed("read", self._read(fn))

    async def _read(self, fn: Callable[[Any], _T]) -> _T:
        self._lifetime.check()
        call: RocksCall[_T] = RocksCall(fn, full=False)
        with self._lock:
            self._lifetime.check()
            self._writer.start()  # it closes what a read opens
            if not may_block():
                self._readers.post(call)
        return _run(self._shared, call) if may_block() else await call.outcome()

    async def namespaces(self) -> list[str]:
        return await self._read(ReadView.namespaces)

    async def check(self) -> list[str]:
        """Reads every file from the disk, also what is in caches, and looks at nothing else of this store: a second
        look at the folder (`RocksConfig.read_only`)."""

        def check(view: ReadView) -> list[str]:
            view.namespaces()  # raises where the store cannot be opened
            return check_files(self.config, view.check_wanted)

        return await self._read(check)

    async def checkpoint(self, folder: str | os.PathLike[str]) -> None:
        """Make a copy of the store, as it is at one moment, while it is used: `folder` must not exist, lies on
        the same file system, and is a store itself (0700) when this returns. Files are linked, so it costs little time
        and only the room of what changes afterwards. Raises AlreadyExists, NotFound, InvalidInput, StorageFull,
        PermissionDenied, Unavailable."""
        await self._read(lambda view: view.checkpoint(os.fspath(folder)))

    async def aclose(self) -> None:
        if not self._lifetime.is_here:
            self._lifetime.is_closed = True
            return  # the threads are the parent's, and the lock may be
        with self._lock:
            is_first = not self._lifetime.is_closed
            self._lifetime.is_closed = True
            readers: Sequence[threading.Thread] = self._readers.end()
        if not is_first:
            await joined([started(lambda: _until(self._closed), "graviton-closing")])
            return
        self._shared.end_waits()
        try:
            await self._end(readers)
        finally:
            self._closed.set()

    async def _end(self, readers: Sequence[threading.Thread]) -> None:
        if self._forget is not None:
            self._forget()
        try:
            await joined(readers)
        finally:  # also if cancelled: it closes what is open
            writer = self._writer.stop()
            if writer is not None:
                await joined([writer])


def _serve(shared: Shared, calls: Iterable[RocksCall[Any]]) -> None:
    """What a reading thread does."""
    for call in calls:
        if call.take():
            try:
                call.result = _run(shared, call)
            except BaseException as error:  # noqa: BLE001 - delivered to the caller
                call.error = error
            deliver((call,))
        del call  # it holds what belongs to the caller


def _run(shared: Shared, call: RocksCall[Any]) -> Any:
    with shared.view(call.check, call.since) as (database, moment):
        view = ReadView(database, moment, call.check)
        try:
            return call.fn(view)
        finally:
            view.finish()


def _until(event: threading.Event) -> None:
    event.wait()


def _abandon(shared: Shared, writer: GroupThread[RocksCall[Any]], readers: Crew[RocksCall[Any]]) -> None:
    shared.end_waits()
    readers.end()
    writer.stop()
