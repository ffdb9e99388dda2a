"""The byte budget: one bound on the memory that all streams of a process may hold.

A stream first *acquires* what it needs to make any progress and waits for that, first come first served; it then asks
with `try_acquire` for more, which never waits. Nobody waits while holding, so streams cannot block each other for ever.
Whoever feeds one stream from another (a copy from store to store) does hold while it waits; so puts leave a quarter of
the budget to reads, and one of the two always goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import NamedTuple

from graviton.errors import InvalidInput, LimitExceeded

__all__ = ["DEFAULT_BUDGET_BYTES", "ByteBudget"]

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
        self._waiters: deque[_Waiter] = deque()

    @property
    def used(self) -> int:
        """Bytes in use now."""
        return self._used

    def try_acquire(self, size: int, limit: int | None = None) -> bool:
        """Take `size` bytes if nobody waits and the use stays within `limit` (the total by default); whether it was
        done."""
        with self._lock:
            if self._waiters or self._used + size > (limit or self.total):
                return False
            self._used += size
            return True

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
        loop = asyncio.get_running_loop()
        waiter = _Waiter(size, limit, loop, loop.create_future())
        with self._lock:
            self._waiters.append(waiter)
        self._wake()  # something may have been released between the try and the queueing
        try:
            await waiter.ready
        except asyncio.CancelledError:
            if not self._leave_line(waiter):
                self.release(size)  # it was granted in the very moment of the cancellation
            raise

    def release(self, size: int) -> None:
        """Give `size` bytes back. May be called from any thread."""
        with self._lock:
            self._used -= size
        self._wake()

    def _wake(self) -> None:
        """Serve the line, first come first served; but puts that wait for other puts never hold up reads."""
        with self._lock:
            kept: deque[_Waiter] = deque()
            blocked = 0  # largest limit of those who go on waiting; only a larger one may pass them
            for waiter in self._waiters:
                if waiter.limit > blocked and self._used + waiter.size <= waiter.limit:
                    try:
                        waiter.loop.call_soon_threadsafe(_grant, waiter.ready)
                    except RuntimeError:
                        continue  # its event loop is closed: nobody waits there any more
                    self._used += waiter.size
                else:
                    blocked = max(blocked, waiter.limit)
                    kept.append(waiter)
            self._waiters = kept

    def _leave_line(self, leaver: _Waiter) -> bool:
        """Whether the waiter was still in line."""
        with self._lock:
            before = len(self._waiters)
            self._waiters = deque(waiter for waiter in self._waiters if waiter is not leaver)
            left = len(self._waiters) < before
        self._wake()
        return left


class _Waiter(NamedTuple):
    """One in line."""

    size: int
    limit: int
    loop: asyncio.AbstractEventLoop
    ready: asyncio.Future[None]


def _grant(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
