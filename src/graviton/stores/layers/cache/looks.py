"""`Looks`: reading the cache's folder on a few threads, for nobody longer than he has patience.

`WorkerPool` waits for a call that has begun, because a thread must not use what its caller gave back. A look uses
nothing of its caller's: it reads into memory of its own. So who is cancelled leaves at once, who has waited for long
enough goes elsewhere, and the thread is left alone with its disk. While it hangs there nobody else is sent after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from graviton.concurrency.calls import Call, deliver
from graviton.concurrency.crew import Crew
from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.threads import joined
from graviton.core.clock import Clock

__all__ = ["PATIENCE_SECONDS", "PAUSE_SECONDS", "Looks"]

_T = TypeVar("_T")

PATIENCE_SECONDS = 2.0
"""How long anybody waits for a look, with his turn in the line. A fetch from a bucket takes a tenth of a second, so a
cache that needs longer is of no use; and a disk that is merely busy answers within some tens of milliseconds. A look
that has been with the disk for half of it hangs."""

PAUSE_SECONDS = 10.0
"""How long nobody looks after a look was last seen to hang. On a disk where every look takes too long, those who read
in one moment of ten seconds lose their patience, the others nothing; and one that has recovered is soon used again."""


class Looks:
    """At most `size` threads. Usable from several threads and event loops, not in a child made by fork."""

    def __init__(self, size: int, clock: Clock, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._clock, self._patience = clock, patience_seconds
        self._lifetime = Lifetime("store", "cache")
        self._crew: Crew[_Look[Any]] = Crew(size, "graviton-cache", _do, self._lifetime)
        self._begun: dict[object, float] = {}
        """What is being looked at, and since when; at most `size`."""
        self._resume_at = clock.monotonic()

    @property
    def is_paused(self) -> bool:
        """Whether the disk hangs, or did a moment ago: then go elsewhere."""
        return self._noticed() < self._resume_at

    def _noticed(self) -> float:
        """The time, after seeing to it whether a look hangs."""
        now = self._clock.monotonic()
        if any(now - since >= self._patience / 2 for since in tuple(self._begun.values())):
            self._resume_at = now + PAUSE_SECONDS
        return now

    def check_usable(self) -> None:
        """Raise Unavailable after `close`, and in a child made by fork."""
        self._lifetime.check()

    async def run(self, look: Callable[[], _T]) -> _T:
        """`look()` on a thread. Raises what it raises, TimeoutError when patience ends, and Unavailable if there is no
        thread to be had. What it uses must be its own: after an error it may still run, or do so for ever."""
        call = _Look(look, self._begun, self._clock)
        self._crew.post(call)
        try:
            async with asyncio.timeout(self._patience):
                await call.future
        except BaseException:
            call.leave()
            self._noticed()  # now, in case nobody asks before the look comes back
            raise
        return call.ended()

    async def close(self) -> None:
        """End the threads when they have done what is to be done; those that hang are left alone. Idempotent."""
        await joined(self._crew.end(), self._patience)


class _Look(Call[_T]):
    """One look, which its caller may leave at any time."""

    __slots__ = ("_begun", "_clock", "_look")

    def __init__(self, look: Callable[[], _T], begun: dict[object, float], clock: Clock) -> None:
        super().__init__()
        self._look: Callable[[], _T] | None = look
        self._begun, self._clock = begun, clock

    def run(self) -> None:
        """On the thread."""
        if not self.take():
            return
        look, self._look = self._look, None
        assert look is not None, "only who takes a look may take it away"
        self._begun[self] = self._clock.monotonic()
        try:
            self.result = look()
        except BaseException as error:  # noqa: BLE001 - delivered to the caller
            self.error = error
        finally:
            del look, self._begun[self]
        if self.cancelled:
            self.forget()
        else:
            deliver((self,))

    def leave(self) -> None:
        """On the loop: nobody waits for it any more."""
        self.cancelled = True
        if self.take():
            self._look = None
        self.forget()


def _do(looks: Iterable[_Look[Any]]) -> None:
    for look in looks:
        look.run()
        del look
