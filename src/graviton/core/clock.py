"""Time as a parameter, so that tests never sleep and never wait for a date.

`SystemClock` is the only place in the package that may ask the machine for the time of day; lint bans it elsewhere.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where the time comes from."""

    def now_ns(self) -> int:
        """Time of day: nanoseconds since 1970-01-01 UTC. May jump either way; decides *when*, never *whether*."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back. For durations and time-outs."""


class SystemClock:
    """The clock of this machine."""

    __slots__ = ()

    def now_ns(self) -> int:
        """See `Clock.now_ns`."""
        return time.time_ns()

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()
