"""Calls that wait at the same moment, done together on a thread that may block (blocking.py).

The thread does a group from beginning to end, in place. What arrives meanwhile waits and is done together next. Nobody
waits for others who might come. Where a slow disk is what they wait for, several threads may share the queue.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from graviton.concurrency.blocking import declare_blocking_thread
from graviton.concurrency.calls import Call, deliver
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined, started
from graviton.errors import Unavailable

__all__ = ["Gathering", "Group"]

_C = TypeVar("_C", bound=Call[Any])

Serve: TypeAlias = Callable[[Sequence[_C]], Awaitable[None]]
"""Gives each call its result or its error, and delivers it."""


SLOW_SECONDS = 0.01
"""A group that takes longer has waited for something: a disk, or the interpreter's lock, which another thread does not
mind. In memory a group is done in a millisecond or two."""


class Group(NamedTuple):
    """How much is done together, at most."""

    calls: int
    weight: int
    """Sum of the calls' weights; the last call may go beyond it."""


class Gathering(Generic[_C]):
    """The thread and its queue; begun by the first call. Usable from several event loops; not after a fork."""

    def __init__(
        self, serve: Serve[_C], weight: Callable[[_C], int], most: Group, operation: str, *, threads: int = 1
    ) -> None:
        """`serve` must not refer to this object, which could then not be forgotten. `operation` is what the calls do,
        in errors, and part of the name of the thread. Up to `threads` of them, where groups turn out to be slow."""
        self._work = _Work(serve, weight, most, operation)
        self._limit = threads
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._lifetime = Lifetime("store", "store")
        weakref.finalize(self, self._work.queue.put, None)  # forgotten without close

    def submit(self, call: _C) -> None:
        """Queue a call. Raises Unavailable."""
        self._lifetime.check()  # first: in a child made by fork the lock may be held for ever
        with self._lock:
            self._lifetime.check()
            if not self._threads or (self._work.is_behind and len(self._threads) < self._limit):
                self._begin()
            self._work.queue.put(call)

    def _begin(self) -> None:
        try:
            self._threads.append(self._begun())
        except Unavailable:
            if not self._threads:  # else those that there are do it
                raise

    def _begun(self) -> threading.Thread:
        """The event loop is made here, so that a lack of handles is told and not the end of a thread. It is nobody
        else's business: policies for the application's own loops do not concern it."""
        operation = self._work.operation
        try:
            loop = asyncio.SelectorEventLoop()
        except OSError as error:
            raise Unavailable(
                f"no handles for the store: {error.strerror}", operation=operation, hint="Raise the limit: ulimit -n."
            ) from error
        try:
            return started(partial(self._work.run, loop), f"graviton-small-{operation}s")
        except BaseException:
            loop.close()
            raise

    async def aclose(self) -> None:
        """Let the calls that were accepted finish and end the thread. Idempotent."""
        if not self._lifetime.is_here:
            self._lifetime.is_closed = True
            return  # the thread is the parent's
        with self._lock:
            self._lifetime.is_closed = True
            threads, self._threads = self._threads, []
        if threads:
            self._work.queue.put(None)
            await joined(threads)


class _Work(Generic[_C]):
    """What the threads know."""

    def __init__(self, serve: Serve[_C], weight: Callable[[_C], int], most: Group, operation: str) -> None:
        self._serve, self._weight, self._most = serve, weight, most
        self.operation = operation
        self.queue: SimpleQueue[_C | None] = SimpleQueue()
        """None goes from thread to thread and ends each."""
        self._is_slow = False

    @property
    def is_behind(self) -> bool:
        """Whether calls wait, and the last group took long."""
        return self._is_slow and not self.queue.empty()

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """What the thread does."""
        declare_blocking_thread()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._serve_all())

    async def _serve_all(self) -> None:
        while await self._serve_waiting():
            pass
        self.queue.put(None)

    async def _serve_waiting(self) -> bool:
        """Do what waits now; whether to go on. Whatever goes wrong, who was taken gets an answer."""
        waiting = self._gathered()
        begun = [call for call in waiting if call is not None and call.take()]  # the others were cancelled meanwhile
        began = time.monotonic()
        try:
            if begun:
                await self._serve(begun)
        except BaseException as error:  # noqa: BLE001 - the thread must live
            for call in begun:
                if call.result is None and call.error is None:
                    reason = f"the {self.operation} was stopped by {type(error).__name__}"
                    call.error = Unavailable(reason, operation=self.operation)
            deliver(begun)
        self._is_slow = time.monotonic() - began > SLOW_SECONDS
        return waiting[-1] is not None

    def _gathered(self) -> list[_C | None]:
        """All that waits now, at least one, at most a group."""
        first = self.queue.get()
        found: list[_C | None] = [first]
        weight = 0 if first is None else self._weight(first)
        while found[-1] is not None and len(found) < self._most.calls and weight < self._most.weight:
            try:
                found.append(one := self.queue.get_nowait())
            except Empty:
                break
            weight += 0 if one is None else self._weight(one)
        return found
