"""Functions on their way to a thread of ours and back to the event loop that waits for them.

Lighter than concurrent.futures (65 instead of 85 us for the round trip), and with two things it lacks: results of one
commit go back to a loop in one wake-up, and a cancelled call is taken back if nobody began it, else waited for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from graviton.errors import Unavailable

__all__ = ["Call", "CallCancelled", "deliver", "started"]

_T = TypeVar("_T")


class CallCancelled(BaseException):
    """Raised by a transaction whose caller is gone: unwinds the function, never reaches a caller."""


class Call(Generic[_T]):
    """One function with its outcome. Made on the loop; the thread fills `result` or `error` and delivers."""

    __slots__ = ("_ended", "_ticket", "_waiter", "cancelled", "error", "fn", "full", "future", "loop", "result")

    def __init__(self, fn: Callable[[Any], _T], full: bool) -> None:
        self.fn: Callable[[Any], _T] = fn
        self.full = full
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        """Says that the call has ended, never how: `outcome` raises the error itself, because a future takes no
        StopIteration, and who waits would wait for ever."""
        self.cancelled = False
        self.result: _T | None = None
        self.error: BaseException | None = None
        self._ticket = [None]
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def take(self) -> bool:
        """Whether the one who asks first is who asks now: the thread to begin, or the loop to take the call back."""
        try:
            self._ticket.pop()  # atomic
        except IndexError:
            return False
        return True

    def check(self) -> None:
        """On the thread: raise CallCancelled if nobody waits any more."""
        if self.cancelled:
            raise CallCancelled

    async def outcome(self) -> _T:
        """On the loop: the result. If cancelled, returns when the call will not begin or has ended as a whole."""
        try:
            await self.future
        except asyncio.CancelledError:
            self.cancelled = True
            if not self._ended and not self.take():
                await self._until_ended()
            raise
        if self.error is None:
            return self.result  # type: ignore[return-value]
        error, self.error = self.error, None
        try:
            if isinstance(error, Exception):
                raise error  # of StopIteration Python makes a RuntimeError here, as everywhere (PEP 479)
            # SystemExit and the like: the loop must not be torn down from another thread
            raise Unavailable(f"the transaction was stopped by {type(error).__name__}") from error
        finally:
            del error  # its traceback holds this frame

    async def _until_ended(self) -> None:
        while not self._ended:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                continue  # cancelled again: the transaction still ends first

    def settle(self) -> None:
        """On the loop: wake who waits."""
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if not self.future.done():
            self.future.set_result(None)


def started(work: Callable[[], None], name: str) -> threading.Thread:
    """A thread that runs `work`. Raises Unavailable if the system gives none."""
    thread = threading.Thread(target=work, name=name, daemon=True)  # a forgotten aclose must not hang the exit
    try:
        thread.start()
    except RuntimeError as error:
        raise Unavailable(
            f"no thread for the metadata store: {error}",
            operation="kv",
            hint="The limit of threads or memory is reached (ulimit -u, pids.max): end something, then try again.",
        ) from error
    return thread


def deliver(calls: Iterable[Call[Any]]) -> None:
    """On the thread: give each loop its outcomes in one wake-up."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Call[Any]]] = {}
    for call in calls:
        by_loop.setdefault(call.loop, []).append(call)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, mine)
        except RuntimeError:
            pass  # the loop is closed: nobody waits


def _settle_all(calls: list[Call[Any]]) -> None:
    for call in calls:
        call.settle()
