"""Work on its way to a thread of ours and back to the event loop that waits for it.

Lighter than concurrent.futures (65 instead of 85 us for the round trip), and with two things it lacks: outcomes that
are ready at the same moment go back to a loop in one wake-up, and a cancelled call is taken back if nobody began it,
else waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from graviton.errors import GravitonError, Unavailable

__all__ = ["Call", "CallCancelled", "CancelFlag", "deliver", "own_copy"]

_T = TypeVar("_T")


class CallCancelled(BaseException):
    """Raised on the thread by `CancelFlag.check`: unwinds the work, never reaches a caller."""


class CancelFlag:
    """What work sees of its call: whether somebody still waits. Set on the loop, asked on the thread."""

    __slots__ = ("cancelled",)

    def __init__(self) -> None:
        self.cancelled = False

    def check(self) -> None:
        """Raise CallCancelled if nobody waits any more."""
        if self.cancelled:
            raise CallCancelled


class Call(CancelFlag, Generic[_T]):
    """One piece of work with its outcome. Made on the loop; the thread fills `result` or `error` and delivers."""

    __slots__ = ("_ended", "_ticket", "_waiter", "error", "future", "loop", "result")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        """Says that the call has ended, never how: `outcome` raises the error itself, because a future takes no
        StopIteration, and who waits would wait for ever."""
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

    async def outcome(self, interrupt: Callable[[], object] | None = None) -> _T:
        """On the loop: the result. If cancelled, returns when the call will not begin or has ended as a whole; before
        it waits for that it calls `interrupt`, which tells work that cannot look at its flag."""
        try:
            await self.future
        except asyncio.CancelledError:
            self.cancelled = True
            if not self._ended and not self.take():
                if interrupt is not None:
                    interrupt()
                await self._until_ended()
            self.forget()
            raise
        return self.ended()

    def ended(self) -> _T:
        """The result, or the error raised, once there is one of them."""
        if self.error is None:
            return self.result  # type: ignore[return-value]  # _T may be None itself
        error, self.error = self.error, None
        try:
            if isinstance(error, Exception):
                raise error  # of StopIteration Python makes a RuntimeError in coroutines (PEP 479)
            # SystemExit and the like: the loop must not be torn down from another thread
            raise Unavailable(f"the work was stopped by {type(error).__name__}") from error
        finally:
            del error  # its traceback holds this frame

    def forget(self) -> None:
        """Nobody asks for the outcome: let it go, with the frames of an error that hold this call and its bytes."""
        self.result = self.error = None

    async def _until_ended(self) -> None:
        while not self._ended:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                continue  # cancelled again: the work still ends first

    def settle(self) -> None:
        """On the loop: wake who waits."""
        self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if not self.future.done():
            self.future.set_result(None)


def deliver(calls: Iterable[Call[Any]]) -> None:
    """On the thread: give each loop its outcomes in one wake-up."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Call[Any]]] = {}
    for call in calls:
        by_loop.setdefault(call.loop, []).append(call)
    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, mine)
        except RuntimeError:  # the loop is closed: nobody waits
            for call in mine:
                call.forget()


def _settle_all(calls: list[Call[Any]]) -> None:
    for call in calls:
        call.settle()


def own_copy(error: BaseException) -> BaseException:
    """An own instance for each caller: tracebacks and notes of one must not show up with another."""
    if not isinstance(error, GravitonError):
        return error
    made = type(error)(error.message)
    made.__dict__.update(error.__dict__)
    made.__dict__.pop("__notes__", None)
    made.__cause__ = error.__cause__
    return made
