"""Blocking calls on a few threads of our own, beside the event loop and never left behind.

`concurrent.futures`, and `asyncio.to_thread` on top of it, costs more per call (calls.py), queues calls it has no
thread for, keeps the process from ending while one of them waits, does not wait for one that was cancelled, and cannot
tell a running function that nobody waits for it any more.

Work that ends by itself (hashing, disks) shares the threads of a pool. What may wait for somebody else (a pipe, a file
object, an iterator) gets a pool of one thread, or four silent sources would stop everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar, TypeVarTuple

from graviton.concurrency.blocking import may_block
from graviton.concurrency.calls import Call, CancelFlag, deliver
from graviton.concurrency.crew import Crew
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined

__all__ = ["WorkerPool", "in_own_thread", "in_thread"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_Job: TypeAlias = Callable[[], object]


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


class WorkerPool:
    """At most `size` threads, begun when calls wait and no thread is free. Usable from several threads and loops.

    They keep nothing alive: not the process, nor a pool that was forgotten, nor what belongs to a call that has ended.
    """

    def __init__(self, size: int, name: str) -> None:
        """`name` is the operation in errors, and part of the names of the threads."""
        self._lifetime = Lifetime("store", name)
        self._crew: Crew[_Job] = Crew(size, f"graviton-{name}", _do, self._lifetime)

    async def run(
        self,
        fn: Callable[[CancelFlag], _T],
        *,
        interrupt: Callable[[], object] | None = None,
        must_run: bool = False,
    ) -> _T:
        """`fn(flag)` on a worker, or here where that may block. Raises what it raises, and as `post`.

        Cancelled, a call that has not begun is taken back. One that has is waited for, so that no thread uses a buffer
        or descriptor that its owner gave back: its flag says so, and `interrupt` is called first to tell a function
        that cannot look at it. With `must_run` it begins even so, because it cleans up.
        """
        if may_block():
            self.check_usable()
            return fn(CancelFlag())
        call = _Call(fn)
        if must_run:
            call.take()  # as good as begun: it is not taken back but waited for
        self.post(call.run if must_run else call.run_if_wanted)
        try:
            return await call.outcome(interrupt)
        except asyncio.CancelledError:
            call.fn = None  # of a call that was taken back: it still waits for a thread, its bytes need not
            raise

    def post(self, job: _Job) -> None:
        """Have a worker call `job`, which raises nothing. Raises Unavailable, and never calls it, if the pool was
        closed, in a child made by fork, and if the system gives no thread at all."""
        self._crew.post(job)

    def check_usable(self) -> None:
        """Raise Unavailable after `close`, and in a child made by fork, which has none of the threads."""
        self._lifetime.check()

    async def close(self, seconds: float | None = None) -> None:
        """Let the calls that were accepted finish and end the threads; cancelling does not cut it short. With
        `seconds`, a thread that needs longer is left alone. Idempotent."""
        await joined(self._crew.end(), seconds)

    def shutdown(self) -> None:
        """The same, standing still meanwhile: for a pool whose calls were all waited for, which ends at once."""
        for thread in self._crew.end():
            thread.join()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()


def _do(jobs: Iterable[_Job]) -> None:
    for job in jobs:
        job()
        del job  # it holds payloads that belong to the caller


async def in_thread(
    pool: WorkerPool, call: Callable[[*_Ts], _T], *args: *_Ts, interrupt: Callable[[], object] | None = None
) -> _T:
    """The result of `call(*args)` on a thread of `pool`: see `WorkerPool.run`."""
    return await pool.run(lambda flag: call(*args), interrupt=interrupt)


async def in_own_thread(call: Callable[[*_Ts], _T], *args: *_Ts, interrupt: Callable[[], object] | None = None) -> _T:
    """The result of `call(*args)` on a thread that begins for it and has ended when this returns or raises.

    For one call alone, as `in_thread` otherwise; calls that follow each other share a pool.
    """
    with WorkerPool(1, "call") as pool:
        return await in_thread(pool, call, *args, interrupt=interrupt)
