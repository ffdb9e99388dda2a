"""`FakeClock`: a clock that stands still until the test moves it."""

from __future__ import annotations

__all__ = ["FakeClock"]

START_NS = 1_700_000_000_000_000_000
"""2023-11-14 22:13:20 UTC: a plausible time of day, the same in every run."""


class FakeClock:
    """A `graviton.core.clock.Clock` whose two times the test moves, together or apart."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self._now_ns = now_ns
        self._monotonic_ns = 0

    def now_ns(self) -> int:
        """See `Clock.now_ns`."""
        return self._now_ns

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._monotonic_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Let `seconds` >= 0 go by on both clocks."""
        if seconds < 0:
            raise ValueError("time does not go back; jump() sets the time of day alone")
        passed_ns = round(seconds * 1e9)
        self._now_ns += passed_ns
        self._monotonic_ns += passed_ns

    def jump(self, seconds: float) -> None:
        """Set the time of day forward or back, as an administrator or NTP does; the monotonic clock is not moved."""
        self._now_ns += round(seconds * 1e9)
