"""Single puts of small `bytes`, gathered: those that wait at the same moment are stored as one group.

A small put waits for the disk three times (docs/block-life.md) and would change threads as often. So one thread does it
from beginning to end, in place (concurrency/blocking.py). What arrives meanwhile waits and is stored together next: it
shares its fsyncs and its commit, each blob an owner of its own. Nobody waits for others who might come.
docs/decisions/0005-small-puts.md.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from queue import Empty, SimpleQueue

from graviton.concurrency.blocking import declare_blocking_thread
from graviton.concurrency.calls import Call, deliver
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined, started
from graviton.ports.blobs import BlobWriteResult
from graviton.stores.put import Parts
from graviton.stores.put_many import MAX_GROUP_BYTES, MAX_GROUP_ITEMS, Item, put_group
from graviton.stores.segments import step_bytes

__all__ = ["SmallPuts"]


class _Put(Call[BlobWriteResult]):
    """One blob on its way to the thread and back."""

    __slots__ = ("item",)

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item


_Queue = SimpleQueue[_Put | None]
"""None ends the thread."""


class SmallPuts:
    """The thread and its queue; begun by the first put. Usable from several event loops; not after a fork."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._queue: _Queue = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._lifetime = Lifetime("store", "store")
        weakref.finalize(self, self._queue.put, None)  # forgotten without close

    async def put(self, item: Item) -> BlobWriteResult:
        """Store one blob, whole or not at all. Cancelled, it returns when the blob will not be stored or has been."""
        put = _Put(item)
        with self._lock:
            self._lifetime.check()
            if self._thread is None:
                self._thread = started(partial(_work, self._queue, self._parts), "graviton-small-puts")
            self._queue.put(put)
        return await put.outcome()

    async def aclose(self) -> None:
        """Let the puts that were accepted finish and end the thread. Idempotent."""
        with self._lock:
            self._lifetime.is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._lifetime.is_here:
            self._queue.put(None)
            await joined([thread])


def _work(queue: _Queue, parts: Parts) -> None:
    declare_blocking_thread()
    asyncio.run(_serve(queue, parts))


async def _serve(queue: _Queue, parts: Parts) -> None:
    while waiting := _gathered(queue):
        begun = [put for put in waiting if put is not None and put.take()]  # the others were cancelled meanwhile
        for group in _compatible(begun):
            await _store(parts, group)
            deliver(group)
        if waiting[-1] is None:
            return
        del waiting, begun


def _gathered(queue: _Queue) -> list[_Put | None]:
    """All that waits now, at least one, at most a group."""
    first = queue.get()
    found: list[_Put | None] = [first]
    size = 0 if first is None else len(first.item.data)
    while found[-1] is not None and len(found) < MAX_GROUP_ITEMS and size < MAX_GROUP_BYTES:
        try:
            found.append(one := queue.get_nowait())
        except Empty:
            break
        size += 0 if one is None else len(one.item.data)
    return found


def _compatible(puts: Sequence[_Put]) -> Iterator[list[_Put]]:
    """Neighbours that can be one group."""
    for (_, _, chunker), some in groupby(puts, key=lambda put: put.item.kind):
        most = step_bytes(chunker, MAX_GROUP_BYTES)
        group: list[_Put] = []
        size = 0
        for put in some:
            if group and size + len(put.item.data) > most:
                yield group
                group, size = [], 0
            group.append(put)
            size += len(put.item.data)
        yield group


async def _store(parts: Parts, puts: Sequence[_Put]) -> None:
    """Give each put its result or its error. What fails together is tried alone: nobody fails for a stranger's blob."""
    try:
        results = await put_group(parts, [put.item for put in puts])
    except BaseException as error:  # noqa: BLE001 - the thread must live, and the caller be told
        if len(puts) == 1:
            puts[0].error = error
            return
        for put in puts:
            await _store(parts, [put])
    else:
        for put, result in zip(puts, results, strict=True):
            put.result = result
