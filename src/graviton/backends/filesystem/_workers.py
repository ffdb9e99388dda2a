"""A few threads of our own for blocking calls, with a cancellation that leaves nothing behind.

`concurrent.futures` costs 85 us per call here and cannot tell a running function that nobody waits for it any more;
this costs 65 us (benchmarks/filesystem), and a cancelled call sees its flag, cleans up, and is waited for.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeAlias, TypeVar

from graviton.concurrency.blocking import may_block
from graviton.concurrency.calls import Call, CancelFlag, deliver
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined, started
from graviton.errors import Unavailable

__all__ = ["WorkerPool"]

_T = TypeVar("_T")
_I = TypeVar("_I")


class _Call(Call[_T]):
    """One function on its way through a worker and back to its loop."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[CancelFlag], _T]) -> None:
        super().__init__()
        self.fn: Callable[[CancelFlag], _T] | None = fn

    def run(self) -> None:
        """On the worker: call the function, send the outcome to the loop, keep no reference to its arguments."""
        fn, self.fn = self.fn, None
        assert fn is not None
        try:
            self.result = fn(self)
        except BaseException as error:  # noqa: BLE001 - delivered to the caller
            self.error = error
        finally:
            del fn
        deliver((self,))

    def run_if_wanted(self) -> None:
        """The same, unless it was cancelled while it waited for a thread."""
        if self.take():
            self.run()


_Queue: TypeAlias = "SimpleQueue[Callable[[], None] | None]"
"""None goes from thread to thread and ends each."""


class WorkerPool:
    """At most `size` threads, begun when calls wait and no thread is free. Usable from several threads and loops."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._queue: _Queue = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._pending = [0]  # shared with the threads, which must not keep the pool alive
        self._lifetime = Lifetime("store", name)
        weakref.finalize(self, self._queue.put, None)  # a pool that was never closed takes its threads with it

    async def run(self, fn: Callable[[CancelFlag], _T], *, must_run: bool = False) -> _T:
        """`fn(flag)` on a worker, or here where that may block. Raises what it raises. Cancelled, a call that has not
        begun is taken back, and one that has is waited for until `fn` notices. With `must_run` it begins even so,
        because it cleans up."""
        if may_block():
            self.check_usable()
            return fn(CancelFlag())
        call = _Call(fn)
        if must_run:
            call.take()  # as good as begun: it is not taken back but waited for
        self._post(call.run if must_run else call.run_if_wanted)
        try:
            return await call.outcome()
        except asyncio.CancelledError:
            call.fn = None  # of a call that was taken back: it still waits for a thread, its bytes need not
            raise

    def spread(self, fn: Callable[[_I], None], items: Sequence[_I], width: int) -> None:
        """On a worker: `fn(item)` for each item, here and on up to `width - 1` free workers; returns when all is done.

        After an error no further item is begun; the first error is raised once nothing runs any more. It cannot
        deadlock: this thread does all the work if no other is free, or none may begin any more because the pool was
        closed after the call that spreads was accepted.
        """
        if width <= 1 or len(items) <= 1:
            for item in items:
                fn(item)
            return
        spread = _Spread(fn, iter(items))
        for _ in range(min(width, len(items)) - 1):
            try:
                self._post(spread.help)
            except Unavailable:
                break
        spread.help()
        spread.wait()

    def _post(self, job: Callable[[], None]) -> None:
        with self._lock:
            self.check_usable()
            if self._pending[0] >= len(self._threads) < self._size:
                self._begin_thread()
            self._pending[0] += 1
            self._queue.put(job)

    def _begin_thread(self) -> None:
        work = partial(_work, self._queue, self._lock, self._pending)
        try:
            self._threads.append(started(work, f"{self._name}-{len(self._threads)}"))
        except Unavailable:
            if not self._threads:  # else those that there are do it
                raise

    def check_usable(self) -> None:
        """Raise Unavailable after `close`, and in a child made by fork, which has none of the threads."""
        self._lifetime.check()

    async def close(self) -> None:
        """Let the calls that were accepted finish and end the threads; cancelling does not cut it short. Idempotent."""
        with self._lock:
            self._lifetime.is_closed = True
            threads, self._threads = self._threads, []
        if threads and self._lifetime.is_here:
            self._queue.put(None)
            await joined(threads)


def _work(queue: _Queue, lock: threading.Lock, pending: list[int]) -> None:
    while True:
        job = queue.get()
        if job is None:
            queue.put(None)
            return
        job()
        del job  # it holds payloads that belong to the caller
        with lock:
            pending[0] -= 1


class _Spread(Generic[_I]):
    """Items shared by the threads of one `spread`."""

    def __init__(self, fn: Callable[[_I], None], items: Iterator[_I]) -> None:
        self._fn = fn
        self._items = items
        self._condition = threading.Condition()
        self._running = 0
        self._error: BaseException | None = None

    def help(self) -> None:
        """Take items until there are none; an error stops everybody."""
        while self._take():
            pass

    def _take(self) -> bool:
        with self._condition:
            if self._error is not None:
                return False
            try:
                item = next(self._items)
            except StopIteration:
                return False
            self._running += 1
        error: BaseException | None = None
        try:
            self._fn(item)
        except BaseException as caught:  # noqa: BLE001 - raised by wait
            error = caught
        with self._condition:
            self._running -= 1
            self._error = self._error or error
            if self._running == 0:
                self._condition.notify_all()
        return error is None

    def wait(self) -> None:
        """Until no item is in work; raises the first error."""
        with self._condition:
            while self._running:
                self._condition.wait()
            self._items = iter(())  # helpers that never got a thread must not keep the caller's payloads
            self._fn = _nothing
        if self._error is not None:
            raise self._error


def _nothing(item: object) -> None:
    """Stands where the function was."""
