"""The clock of this machine keeps the promises of the interface."""

from __future__ import annotations

from graviton.core.clock import Clock, SystemClock


def test_the_system_clock_gives_utc_nanoseconds_and_seconds_that_never_go_back() -> None:
    clock: Clock = SystemClock()
    year_2020, year_2200 = 1_577_836_800 * 10**9, 7_258_118_400 * 10**9
    assert isinstance(clock.now_ns(), int)
    assert year_2020 < clock.now_ns() < year_2200
    times = [clock.monotonic() for _ in range(1000)]
    assert times == sorted(times)
