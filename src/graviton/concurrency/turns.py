"""Work that is done by one at a time: what waits meanwhile is done together next, by the first who waits.

For work that would be in each other's way (transactions that change the same rows), and costs less together. There is
no task or thread beside those who wait, whose event loops may be several.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from graviton.concurrency.finishing import finish_anyway

__all__ = ["InTurns"]

_J = TypeVar("_J")


class InTurns(Generic[_J]):
    """Jobs, done in the order they come. Usable from several event loops and threads."""

    def __init__(self, do: Callable[[list[_J]], Awaitable[None]]) -> None:
        """`do` does the jobs it is given, and leaves in each what came of it. Raises nothing."""
        self._do = do
        self._lock = threading.Lock()
        self._line: list[_Place[_J]] = []
        self._is_busy = False

    async def run(self, job: _J) -> None:
        """Have `job` done. Cancelled, it is not done, or is done to its end."""
        place = _Place(job)
        with self._lock:
            self._line.append(place)
            place.leads, self._is_busy = not self._is_busy, True
        if not place.leads:
            try:
                await place.turn
            except BaseException:
                self._leave(place)
                raise
        if place.leads:
            await finish_anyway(self._lead())

    async def _lead(self) -> None:
        with self._lock:
            places, self._line = self._line, []
        try:
            await self._do([place.job for place in places])
        finally:
            for place in places:
                place.wake()
            with self._lock:
                self._pass_on()

    def _pass_on(self) -> None:
        """Let the first in line lead. The lock is held."""
        while self._line:
            self._line[0].leads = True
            if self._line[0].wake():
                return
            del self._line[0]  # its loop is closed
        self._is_busy = False

    def _leave(self, place: _Place[_J]) -> None:
        with self._lock:
            if place in self._line:
                self._line.remove(place)
                if place.leads:
                    self._pass_on()


class _Place(Generic[_J]):
    """One in line, who is woken when his job is done or he is to do it, with all others that wait then."""

    __slots__ = ("_loop", "job", "leads", "turn")

    def __init__(self, job: _J) -> None:
        self.job = job
        self.leads = False
        self._loop = asyncio.get_running_loop()
        self.turn = self._loop.create_future()

    def wake(self) -> bool:
        """False if nobody can wait any more."""
        try:
            self._loop.call_soon_threadsafe(_set, self.turn)
        except RuntimeError:
            return False
        return True


def _set(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
