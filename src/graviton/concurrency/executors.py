"""Blocking calls on the threads of an executor, beside the event loop and never left behind.

Work that ends by itself (hashing, disks) shares the few threads of a pool. What may wait for somebody else (a pipe, a
file object, an iterator) gets a thread of its own, or four silent sources would stop everything.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar, TypeVarTuple

from graviton.concurrency.blocking import may_block
from graviton.concurrency.finishing import until_done
from graviton.concurrency.threads import started, waited_for
from graviton.errors import Retry, Unavailable

__all__ = ["POLL_SECONDS", "OwnThread", "end_pool", "in_thread"]

POLL_SECONDS = 0.2
"""How long a wait for a pipe or terminal may go on after nobody wants it any more."""

_T = TypeVar("_T")
_P = ParamSpec("_P")
_Ts = TypeVarTuple("_Ts")


async def in_thread(
    pool: Executor, call: Callable[[*_Ts], _T], *args: *_Ts, interrupt: Callable[[], object] | None = None
) -> _T:
    """The result of `call(*args)` on a thread of `pool`. Raises Unavailable if the pool was ended or has no thread.

    If the task is cancelled meanwhile, a call that has not begun is taken back. One that has is still waited for, so
    that no thread uses a buffer or descriptor that its owner gave back; then the cancellation goes on. `interrupt` is
    called first: it tells a call that may wait for long to return. A thread that may block calls at once.
    """
    if may_block():
        return call(*args)
    try:
        job = pool.submit(partial(_called, call, *args))
    except RuntimeError as error:
        raise Unavailable("this store is closed", operation="store", retry=Retry.PERMANENT) from error
    waiting = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        if not job.cancel():
            if interrupt is not None:
                interrupt()
            await until_done(waiting)
        raise


def _called(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """`call(*args)`. A future takes no StopIteration (of a source that is a careless iterator, say), and who waits
    would wait for ever: it becomes the error that Python makes of it in coroutines (PEP 479)."""
    try:
        return call(*args)
    except StopIteration as error:
        raise RuntimeError("a call on a thread raised StopIteration") from error


class OwnThread(Executor):
    """One thread for one source or sink that may wait for others, begun by the first call.

    A daemon, unlike those of a `ThreadPoolExecutor`: a source that never answers must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """See `Executor.submit`. Raises Unavailable if the system gives no thread."""
        future: Future[_T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - delivered to who waits
                future.set_exception(error)

        if self._thread is None:
            self._thread = started(partial(_work, self._calls), self._name)
        self._calls.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread once its calls are done: at once, where they were waited for. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            if wait:
                thread.join()

    def __del__(self) -> None:
        self.shutdown(wait=False)


def _work(calls: SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # it holds what belongs to the caller


async def end_pool(pool: Executor) -> None:
    """Let the calls that were accepted finish and end the threads, without stopping the loop meanwhile."""
    pool.shutdown(wait=False)
    await waited_for(pool.shutdown)
