"""`Flights`: one look for all who want the same block at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from graviton.concurrency.calls import own_copy
from graviton.concurrency.finishing import until_done
from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError, NotFound

__all__ = ["Flights", "Landed"]

_T = TypeVar("_T")

_Place: TypeAlias = "tuple[asyncio.AbstractEventLoop, BlockKey]"


class Landed(NamedTuple, Generic[_T]):
    """What a look gave."""

    value: _T
    is_own: bool
    """Whether the look was begun by the caller."""


class _Flight(Generic[_T]):
    """One look on its way. It belongs to nobody; the last who waits for it takes it along."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, _T]], over: Callable[[_Flight[_T]], object]) -> None:
        self._begun: list[None] = []
        self._waiting = 0
        self._over = over
        self.task = asyncio.ensure_future(_run(work, self._begun))
        self.task.add_done_callback(self._land)  # the first callback, so it comes before those who wait wake up

    @property
    def has_begun(self) -> bool:
        """Whether the look may already have seen what it will tell."""
        return bool(self._begun)

    def _land(self, task: asyncio.Task[_T]) -> None:
        self._over(self)
        if not task.cancelled():
            task.exception()  # retrieved: perhaps nobody waits any more

    async def outcome(self) -> _T:
        """Wait for it. Raises what it raises; each waiter gets an instance of his own."""
        self._waiting += 1
        try:
            await asyncio.wait([self.task])
        except asyncio.CancelledError:
            if self._waiting == 1:
                self._over(self)  # nobody may join it any more
                self.task.cancel()
                await until_done(self.task)
            raise
        finally:
            self._waiting -= 1
        if not self.task.cancelled() and (error := self.task.exception()) is not None:
            raise own_copy(error) from error.__cause__
        return self.task.result()


async def _run(work: Callable[[], Coroutine[Any, Any, _T]], begun: list[None]) -> _T:
    """No method: an error of the work holds this frame, and with `self` in it would hold itself, and the block's bytes,
    until a garbage collection."""
    begun.append(None)
    return await work()


class Flights(Generic[_T]):
    """The looks that are on their way, per event loop. Usable from several loops and threads."""

    def __init__(self) -> None:
        self._going: dict[_Place, _Flight[_T]] = {}

    async def join(self, key: BlockKey, work: Callable[[], Coroutine[Any, Any, _T]]) -> Landed[_T]:
        """What `work()` gives, run by us or by somebody who is at it. Raises what it raises.

        Absence and damage are true for a moment only. So from a look that had begun before this call they are not
        taken: what is put, or put back, in between would seem missing. Then we look again, with all in our position.
        """
        place = asyncio.get_running_loop(), key
        flight = self._under_way(place)
        if flight is not None and flight.has_begun:
            try:
                return Landed(await flight.outcome(), False)
            except (NotFound, IntegrityError):
                flight = self._under_way(place)  # begun after that one ended, so after our call
        is_own = flight is None
        if flight is None:
            flight = self._going[place] = _Flight(work, lambda it: self._forget(place, it))
        return Landed(await flight.outcome(), is_own)

    def _under_way(self, place: _Place) -> _Flight[_T] | None:
        flight = self._going.get(place)
        return None if flight is None or flight.task.done() else flight

    def _forget(self, place: _Place, flight: _Flight[_T]) -> None:
        if self._going.get(place) is flight:
            del self._going[place]
