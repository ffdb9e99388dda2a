"""kill -9 of a real process at its n-th file system call, for n = 1, 2, 3 ... and at random moments."""

from __future__ import annotations

import random
import signal

import pytest

from tests.faults.harness.bench import Bench
from tests.faults.harness.shim import Act, Arm, Calls

CHANGING = [
    "put_small",
    "put_many_blocks",
    "put_large_blocks",
    "put_group",
    "put_at_once",
    "remove",
    "remove_and_put",
    "back_up",
    "init",
]

FEWEST_CALLS = 8
"""A backup, the smallest of the works, writes nine times."""


@pytest.mark.parametrize(("act", "calls"), [(Act.KILL, Calls.CHANGES), (Act.TORN_KILL, Calls.WRITE)])
@pytest.mark.parametrize("scenario", CHANGING)
def test_killed_at_every_call_the_store_keeps_what_it_acknowledged(
    bench: Bench, scenario: str, act: Act, calls: Calls
) -> None:
    for n in bench.reach.calls(scenario, 9):
        place = bench.place(scenario)
        outcome = bench.run(scenario, place, arm := Arm(act, n, calls=calls))
        bench.check(scenario, place, outcome, arm)
        place.remove()
        if not outcome.signal:
            break
        assert outcome.signal == signal.SIGKILL
        bench.figures.add(f"kill: {scenario}, {act.name.lower()}")
    assert n > FEWEST_CALLS, "the scenario was hardly touched"


@pytest.mark.parametrize("scenario", CHANGING)
def test_killed_at_random_moments(bench: Bench, scenario: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    random_moments = random.Random(seed)
    for _ in range(bench.reach.times(4, 100)):
        place = bench.place(scenario)
        seconds = random_moments.uniform(0.001, 0.03)
        outcome = bench.run(scenario, place, Arm(), kill_after=seconds)
        bench.check(scenario, place, outcome, f"seed {seed}, killed after {seconds} s")
        place.remove()
        bench.figures.add("kill: at random moments", int(outcome.signal == signal.SIGKILL))


@pytest.mark.parametrize("scenario", ["put_many_blocks", "put_group", "remove_and_put", "init"])
def test_killed_again_and_again_on_the_same_store(bench: Bench, scenario: str) -> None:
    """What one crash leaves must not make the next one worse: leftovers pile up, and the store stays right.

    There is always a next one: the WAL grows, and its checkpoint needs more calls than the process lives to make.
    """
    place = bench.place(scenario)
    for crash in range(bench.reach.times(12, 300)):
        outcome = bench.run(scenario, place, Arm(Act.KILL, 3 + crash * bench.reach.steps(9)))
        bench.figures.add("kill: again on the same store", int(outcome.signal == signal.SIGKILL))
    outcome = bench.run(scenario, place, Arm())
    assert outcome.of("done")
    bench.check(scenario, place, outcome, "after many crashes")
    place.remove()
