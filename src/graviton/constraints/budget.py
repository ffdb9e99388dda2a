"""The byte budget: one bound on the memory that all streams of a process may hold.

A stream first *acquires* what it needs to make any progress and waits for that, first come first served; it then asks
with `try_acquire` for more, which never waits. Nobody waits while holding, so streams cannot block each other for ever.
What may be forgotten by its owner (a reader left in the middle) is taken as a `Lease`, which comes back by itself.
Whoever feeds one stream from another (a copy from store to store) does hold while it waits; so puts leave a quarter of
the budget to reads, and one of the two always goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Protocol

from graviton.errors import InvalidInput, LimitExceeded

__all__ = ["DEFAULT_BUDGET_BYTES", "BudgetShare", "ByteBudget", "Lease"]

DEFAULT_BUDGET_BYTES = 128 * 1024 * 1024
"""With the interpreter, SQLite's caches and thread stacks a process then stays below 200 MiB."""


class ByteBudget:
    """Counts bytes in use against `total`. May be shared by event loops in several threads."""

    def __init__(self, total: int = DEFAULT_BUDGET_BYTES) -> None:
        """`total` in bytes, at least 1."""
        if total < 1:
            raise InvalidInput(f"a memory budget has at least 1 byte, not {total}")
        self.total = total
        self.for_puts = total - total // 4
        """Up to which use puts may go."""
        self.for_prefetch = total // 2
        """Up to which use reads may go beyond the one block each is guaranteed: what they fetch ahead must leave room
        for a put that they may be feeding."""
        self._used = 0
        self._lock = threading.Lock()
        self._returned: deque[int] = deque()
        """Sizes given back and not yet counted; see `release`."""
        self._waiters: deque[_Waiter] = deque()

    @property
    def used(self) -> int:
        """Bytes in use now."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many wait for bytes now."""
        return sum(not waiter.is_gone for waiter in self._waiters.copy())

    def try_acquire(self, size: int, limit: int | None = None) -> bool:
        """Take `size` bytes if the use stays within `limit` (the total by default) and nobody waits who would not be
        passed in line either; whether it was done."""
        limit = limit or self.total
        with self._lock:
            fits = self._used + size <= limit and all(waiter.limit < limit for waiter in self._waiters)
            if fits:
                self._used += size
        self._settle()
        return fits

    async def acquire(self, size: int, limit: int | None = None) -> None:
        """Take `size` bytes, waiting in line until the use stays within `limit` (the total by default). Raises
        LimitExceeded if that can never be."""
        limit = limit or self.total
        if size > limit:
            raise LimitExceeded(
                f"{size} bytes of memory are needed at once, but only {limit} may be used",
                operation="memory",
                hint="Raise GRAVITON_MEMORY_BYTES or use a chunker with smaller blocks.",
            )
        if self.try_acquire(size, limit):
            return
        waiter = _Waiter(size, limit)
        with self._lock:
            self._waiters.append(waiter)
            self._serve()  # something may have been released between the try and the queueing
        self._settle()
        try:
            await waiter.ready
        except BaseException:  # also GeneratorExit: a task that is garbage leaves the line too
            self.release(0 if waiter.decide() else size)  # it may be granted in the very moment of the cancellation
            raise

    async def lease(self, size: int, limit: int | None = None) -> Lease:
        """Like `acquire`; the bytes come back with the lease."""
        await self.acquire(size, limit)
        return Lease(self, size)

    def try_lease(self, size: int, limit: int | None = None) -> Lease | None:
        """Like `try_acquire`; the bytes come back with the lease."""
        return Lease(self, size) if self.try_acquire(size, limit) else None

    def release(self, size: int) -> None:
        """Give `size` bytes back. May be called from any thread and never waits."""
        self._returned.append(size)
        self._settle()

    def _settle(self) -> None:
        """Count what was given back, and serve the line with it.

        A release may come out of the garbage collector, in the middle of what this very thread does with the lock.
        So it never waits for the lock: whoever has it comes here after letting go of it.
        """
        while self._returned and self._lock.acquire(blocking=False):
            try:
                while self._returned:
                    self._used -= self._returned.popleft()
                self._serve()
            finally:
                self._lock.release()

    def _serve(self) -> None:
        """First come first served; but puts that wait for other puts never hold up reads. The lock is held."""
        kept: deque[_Waiter] = deque()
        blocked = 0  # largest limit of those who go on waiting; only a larger one may pass them
        for waiter in self._waiters:
            if waiter.is_gone:
                continue
            if waiter.limit <= blocked or self._used + waiter.size > waiter.limit:
                blocked = max(blocked, waiter.limit)
                kept.append(waiter)
            elif waiter.grant():
                self._used += waiter.size
        self._waiters = kept


class BudgetShare:
    """What one kind of use may take of a budget, at most, without ever waiting for it: so much is in use of the whole
    too. For what may lie about unused, so that it leaves room for what is at work."""

    def __init__(self, whole: ByteBudget, total: int) -> None:
        """`total` in bytes, at least 1."""
        self._whole = whole
        self._own = ByteBudget(total)

    def try_lease(self, size: int) -> Lease | None:
        """See `ByteBudget.try_lease`."""
        if not self._own.try_acquire(size):
            return None
        if not self._whole.try_acquire(size):
            self._own.release(size)
            return None
        return Lease(self, size)

    def release(self, size: int) -> None:
        """See `ByteBudget.release`."""
        self._whole.release(size)
        self._own.release(size)


class _Released(Protocol):
    def release(self, size: int) -> None: ...


class Lease:
    """Bytes of a budget in use: given back once, by `release` or when nobody refers to the lease any more.

    So whoever uses the memory holds the lease: a call that still runs keeps the bytes counted until it ends.
    """

    __slots__ = ("_budget", "size")

    def __init__(self, budget: _Released, size: int) -> None:
        self._budget = budget
        self.size = size

    def release(self) -> None:
        """Give the bytes back. Idempotent; may be called from any thread."""
        size, self.size = self.size, 0
        if size:
            self._budget.release(size)

    def merge(self, other: Lease) -> None:
        """Take over the bytes of another lease of the same budget, which is then empty."""
        self.size += other.size
        other.size = 0

    __del__ = release


class _Waiter:
    """One in line, who is granted what it waits for or leaves: whichever decides first."""

    __slots__ = ("_loop", "_open", "limit", "ready", "size")

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        self._loop = asyncio.get_running_loop()
        self.ready = self._loop.create_future()
        self._open = [True]  # popped by who decides: one atomic step, because a leaver may not wait for the lock

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits any more."""
        return not self._open or self._loop.is_closed()

    def decide(self) -> bool:
        """Whether nobody had decided before."""
        try:
            return self._open.pop()
        except IndexError:
            return False

    def grant(self) -> bool:
        """Wake the one who waits; False if it is gone."""
        if not self.decide():
            return False
        try:
            self._loop.call_soon_threadsafe(_set, self.ready)
        except RuntimeError:  # its loop was closed just now
            self._open.append(True)
            return False
        return True


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
