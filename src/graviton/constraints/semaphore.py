"""So many at once, a bounded number who wait for it in line, and a clear answer for everybody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from graviton.errors import InvalidInput, TooManyRequests

__all__ = ["SemaphoreLimit", "Timer"]


class Timer(Protocol):
    """What can be called off; `asyncio.TimerHandle`."""

    def cancel(self) -> None:
        """Do not call any more."""


class SemaphoreLimit:
    """At most `slots` at once, first come first served; use as `async with`, or `acquire` and `release`.

    Up to `waiting` more wait for at most `wait_seconds`. Who finds the waiting room full, or has waited that long, gets
    TooManyRequests. For one event loop. Whoever is cancelled while waiting leaves the line, also in the very moment in
    which a slot is his.
    """

    def __init__(
        self,
        slots: int,
        waiting: int,
        wait_seconds: float,
        *,
        name: str = "requests",
        call_later: Callable[[float, Callable[[], object]], Timer] | None = None,
    ) -> None:
        """`name` is what they do, for messages; `call_later` is that of the running loop. Raises InvalidInput."""
        if slots < 1 or waiting < 0 or not wait_seconds >= 0:
            raise InvalidInput(
                f"a limit has slots, not {slots}, and a waiting room, not {waiting} for {wait_seconds} s"
            )
        self.slots = slots
        self.room = waiting
        self.wait_seconds = wait_seconds
        self._name = name
        self._call_later = call_later
        self._in_use = 0
        self._line: deque[asyncio.Future[bool]] = deque()
        """One future for each who waits: True when a slot is his, False when he has waited too long."""

    @property
    def in_use(self) -> int:
        """Slots in use now."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._line)

    async def acquire(self) -> None:
        """Take a slot. Raises TooManyRequests."""
        if self._in_use < self.slots:  # then nobody waits: who frees a slot hands it on
            self._in_use += 1
            return
        if len(self._line) >= self.room:
            raise self._refusal(f"all {self.slots} slots for {self._name} are in use, and {len(self._line)} wait")
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._line.append(place)
        timer = (self._call_later or loop.call_later)(self.wait_seconds, lambda: self._turn_away(place))
        try:
            granted = await place
        except BaseException:  # also GeneratorExit: a task that is garbage leaves the line too
            if place in self._line:
                self._line.remove(place)
            elif not place.cancelled() and place.result():
                self.release()
            raise
        finally:
            timer.cancel()
        if not granted:
            raise self._refusal(f"no slot for {self._name} was free within {self.wait_seconds:g} s")

    def release(self) -> None:
        """Give a slot back: to the first in line, if somebody waits."""
        while self._line:
            place = self._line.popleft()
            if not place.done():  # else its task is cancelled, and has not run yet
                place.set_result(True)
                return
        self._in_use -= 1

    def _turn_away(self, place: asyncio.Future[bool]) -> None:
        if place in self._line and not place.done():
            self._line.remove(place)
            place.set_result(False)

    def _refusal(self, why: str) -> TooManyRequests:
        return TooManyRequests(
            why,
            operation="wait",
            subject=self._name,
            hint="Try again later, or do less at once.",
            retry_after_seconds=max(1.0, self.wait_seconds),
        )

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
