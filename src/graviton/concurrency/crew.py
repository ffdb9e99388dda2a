"""Threads that take jobs from one queue: when another begins, and when they end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import started
from graviton.errors import Unavailable

__all__ = ["Crew"]

_J = TypeVar("_J")


class Crew(Generic[_J]):
    """At most `limit` threads. Another begins when a job comes and none is free, so a long job does not stop short
    ones. A crew that nobody refers to any more takes its threads with it, once the jobs are done."""

    def __init__(self, limit: int, name: str, serve: Callable[[Iterable[_J]], None], lifetime: Lifetime) -> None:
        """Each thread calls `serve` with the jobs that will come to it, which end with the crew. It lets go of each
        before it asks for the next, never raises, and should not refer to the crew,
        which could then not be forgotten."""
        self._limit = limit
        self._name = name
        self._serve = serve
        self._lifetime = lifetime
        self._threads: list[threading.Thread] = []
        self._jobs: _Jobs[_J] = _Jobs()
        # Not at the exit of the process, which waits for no thread of ours: a handler there may still use the store.
        weakref.finalize(self, self._jobs.end).atexit = False

    def post(self, job: _J) -> None:
        """Have `job` done. Raises Unavailable after `end`, after a fork, and if there is no thread and none to be had;
        it will not be done then."""
        self._lifetime.check()  # first: in a child made by fork the lock may be held for ever
        with self._jobs.lock:
            self._lifetime.check()
            if self._jobs.pending >= len(self._threads) < self._limit:
                self._begin_thread()
            self._jobs.pending += 1
            self._jobs.queue.put(job)

    def begin(self) -> None:
        """Have one thread at least, which has what the jobs need in its care. Raises as `post`."""
        self._lifetime.check()
        with self._jobs.lock:
            self._lifetime.check()
            if not self._threads:
                self._begin_thread()

    def _begin_thread(self) -> None:
        try:
            thread = started(partial(self._serve, self._jobs), f"{self._name}-{len(self._threads)}")
        except Unavailable:
            if not self._threads:  # else those that there are do it
                raise
        else:
            self._threads.append(thread)

    def end(self) -> Sequence[threading.Thread]:
        """Let the jobs that were accepted be done, and no other; the threads to wait for. Idempotent."""
        if not self._lifetime.is_here:
            self._lifetime.is_closed = True
            return ()  # the threads are the parent's
        with self._jobs.lock:
            self._lifetime.is_closed = True
        self._jobs.end()
        return tuple(self._threads)


class _Jobs(Generic[_J]):
    """What the threads know of their crew, which they must not keep alive."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[_J | None] = SimpleQueue()
        """None goes from thread to thread and ends each."""
        self.lock = threading.RLock()
        """May be taken again by the thread that has it: a garbage collection at that moment may end the crew."""
        self.pending = 0

    def __iter__(self) -> Iterator[_J]:
        while (job := self.queue.get()) is not None:
            yield job
            del job  # it holds what belongs to the caller
            with self.lock:
                self.pending -= 1
        self.end()

    def end(self) -> None:
        self.queue.put(None)
