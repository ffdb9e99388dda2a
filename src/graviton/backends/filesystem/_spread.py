"""Work on many items at the same time, by the thread that has it and whatever workers are free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from graviton.concurrency.executors import WorkerPool
from graviton.errors import Unavailable

__all__ = ["spread"]

_I = TypeVar("_I")


def spread(pool: WorkerPool, fn: Callable[[_I], None], items: Sequence[_I], width: int) -> None:
    """On a worker: `fn(item)` for each item, here and on up to `width - 1` free workers; returns when all is done.

    After an error no further item is begun; the first error is raised once nothing runs any more. It cannot deadlock:
    this thread does all the work if no other is free, or none may begin any more because the pool was closed after the
    call that spreads was accepted.
    """
    if width <= 1 or len(items) <= 1:
        for item in items:
            fn(item)
        return
    shared = _Spread(fn, iter(items))
    for _ in range(min(width, len(items)) - 1):
        try:
            pool.post(shared.help)
        except Unavailable:
            break
    shared.help()
    shared.wait()


class _Spread(Generic[_I]):
    """Items shared by the threads of one call of `spread`."""

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
