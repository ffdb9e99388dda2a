"""Time stands still until the test moves it."""

import pytest

from graviton.testing.fake_clock import START_NS, FakeClock


def test_clock_stands_still() -> None:
    clock = FakeClock()
    assert [clock.now_ns() for _ in range(3)] == [START_NS] * 3
    assert clock.monotonic() == 0.0


def test_advance_moves_both_clocks() -> None:
    clock = FakeClock(10)
    clock.advance(1.5)
    clock.advance(0)
    assert (clock.now_ns(), clock.monotonic()) == (10 + 1_500_000_000, 1.5)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_jump_moves_the_time_of_day_alone() -> None:
    clock = FakeClock(10_000_000_000)
    clock.jump(-3.0)
    assert (clock.now_ns(), clock.monotonic()) == (7_000_000_000, 0.0)


def test_many_small_steps_add_up_exactly() -> None:
    clock = FakeClock(0)
    for _ in range(1_000_000):
        clock.advance(1e-9)
    assert clock.now_ns() == 1_000_000
