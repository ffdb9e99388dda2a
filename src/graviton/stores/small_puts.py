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
from graviton.concurrency.calls import Call, deliver, own_copy
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined, started
from graviton.errors import Unavailable
from graviton.ports.blobs import BlobWriteResult
from graviton.stores.intake import Parts
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
        self._lifetime.check()  # first: in a child made by fork the lock may be held for ever
        put = _Put(item)
        with self._lock:
            self._lifetime.check()
            if self._thread is None:
                self._thread = self._begin()
            self._queue.put(put)
        return await put.outcome()

    def _begin(self) -> threading.Thread:
        """The event loop is made here, so that a lack of handles is told and not the end of a thread. It is nobody
        else's business: policies for the application's own loops do not concern it."""
        try:
            loop = asyncio.SelectorEventLoop()
        except OSError as error:
            raise Unavailable(
                f"no handles for the store: {error.strerror}", operation="put", hint="Raise the limit: ulimit -n."
            ) from error
        try:
            return started(partial(_work, self._queue, self._parts, loop), "graviton-small-puts")
        except BaseException:
            loop.close()
            raise

    async def aclose(self) -> None:
        """Let the puts that were accepted finish and end the thread. Idempotent."""
        if not self._lifetime.is_here:
            self._lifetime.is_closed = True
            return  # the thread is the parent's
        with self._lock:
            self._lifetime.is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await joined([thread])


def _work(queue: _Queue, parts: Parts, loop: asyncio.AbstractEventLoop) -> None:
    declare_blocking_thread()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_serve(queue, parts))


async def _serve(queue: _Queue, parts: Parts) -> None:
    while await _serve_waiting(queue, parts):
        pass


async def _serve_waiting(queue: _Queue, parts: Parts) -> bool:
    """Store what waits now; whether to go on. Whatever goes wrong, who was taken gets an answer."""
    waiting = _gathered(queue)
    begun = [put for put in waiting if put is not None and put.take()]  # the others were cancelled meanwhile
    try:
        for group in _compatible(begun):
            await _store(parts, group)
    except BaseException as error:  # noqa: BLE001 - the thread must live
        for put in begun:
            if put.result is None and put.error is None:
                put.error = Unavailable(f"the put was stopped by {type(error).__name__}", operation="put")
        deliver(begun)
    return waiting[-1] is not None


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
    """Give each put its result or its error.

    What fails together is tried alone, so that nobody fails for a stranger's blob. Not if the store cannot be reached:
    that concerns all, and each try would wait as long again.
    """
    error = await _try(parts, puts)
    if error is not None and len(puts) > 1 and not isinstance(error, Unavailable):
        for put in puts:
            put.error = Unavailable("cancelled") if put.cancelled else await _try(parts, [put])
            deliver([put])
        return
    if error is not None:
        for put in puts:
            put.error = own_copy(error)
    deliver(puts)


async def _try(parts: Parts, puts: Sequence[_Put]) -> BaseException | None:
    """Store a group; what went wrong, without the frames that hold its bytes."""
    try:
        results = await put_group(parts, [put.item for put in puts])
    except BaseException as error:  # noqa: BLE001 - the caller is told
        return error.with_traceback(None)
    for put, result in zip(puts, results, strict=True):
        put.result = result
    return None
