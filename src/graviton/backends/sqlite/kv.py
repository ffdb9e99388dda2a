"""`SqliteKeyValueStore`: the embedded default for metadata, on the standard library's sqlite3.

One file in WAL mode: many processes, many tasks. Writes go through one thread with one connection, every one of them
BEGIN IMMEDIATE, so none can fail half-way for want of a lock; reads go through a few others and wait for nobody.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from graviton.backends.sqlite._connection import Connect, connect, open_reader, open_writer
from graviton.backends.sqlite._readers import Readers
from graviton.backends.sqlite._transaction import MAX_VALUE_BYTES, ReadView
from graviton.backends.sqlite._write_connections import OPERATION
from graviton.backends.sqlite._writer import Writer
from graviton.backends.sqlite.config import SqliteConfig
from graviton.concurrency.blocking import may_block
from graviton.concurrency.group_thread import GroupThread
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined
from graviton.concurrency.view_calls import ViewCall, done_by
from graviton.ports.capabilities import Capabilities
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

__all__ = ["SqliteKeyValueStore"]

_T = TypeVar("_T")

_FORK_HINT = (
    "Close the store before the fork and open it after, or start the process another way (multiprocessing: spawn):"
    " SQLite connections do not survive a fork."
)


class SqliteKeyValueStore(KeyValueStore):
    """Key-value pairs in one SQLite file. Making the object touches nothing; the file is opened, and created if the
    configuration says so, by the first call. Usable from several threads and event loops. Not in a child made by fork,
    and a file that was open at that moment cannot be opened there anew either: Unavailable (_forks.py)."""

    capabilities = Capabilities(
        persistent=True,
        durable=True,
        multi_process=True,
        runs_in_place=True,
        conditional_put=True,
        max_value_bytes=MAX_VALUE_BYTES,
    )

    def __init__(self, config: SqliteConfig, *, connect: Connect = connect) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._lifetime = Lifetime("metadata store", "kv", subject=str(config.path), fork_hint=_FORK_HINT)
        self._writer: GroupThread[ViewCall[Any]] = GroupThread(
            Writer(config, partial(open_writer, config, connect)),
            config.group_limit,
            "graviton-sqlite-writer",
            OPERATION,
        )
        self._readers = Readers(
            str(config.path), config.max_readers, partial(open_reader, config, connect), self._lifetime
        )
        weakref.finalize(self, _abandon, self._writer, self._readers)  # forgotten without aclose

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        call: ViewCall[_T] = ViewCall(fn, durability is Durability.FULL)
        return await done_by(self._writer, call, self._lock, self._lifetime)

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        call: ViewCall[_T] = ViewCall(fn, full=False)
        if may_block():
            self._readers.run(call)
            return call.ended()
        self._readers.submit(call)
        return await call.outcome()

    async def namespaces(self) -> list[str]:
        def names(view: ReadTransaction) -> list[str]:
            assert isinstance(view, ReadView)
            return view.namespaces()

        return await self.read(names)

    async def check(self) -> list[str]:
        running: list[ReadView] = []

        def check(view: ReadView) -> list[str]:
            running.append(view)
            return view.check()

        def interrupt() -> None:
            for view in running:
                view.interrupt()

        call: ViewCall[list[str]] = ViewCall(check, full=False)
        self._readers.submit(call)
        return await call.outcome(interrupt)

    async def aclose(self) -> None:
        if not self._lifetime.is_here:
            self._lifetime.is_closed = True
            return  # the threads are the parent's, and the lock may be
        with self._lock:
            if self._lifetime.is_closed:
                return
            self._lifetime.is_closed = True
            readers = self._readers.stop()
        try:
            await joined(readers)
        finally:  # also if cancelled
            writer = self._writer.stop()  # last: it may be the last connection of all, which tidies up the WAL
            if writer is not None:
                await joined([writer])


def _abandon(writer: GroupThread[ViewCall[Any]], readers: Readers) -> None:
    readers.stop()
    writer.stop()
