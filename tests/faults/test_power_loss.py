"""Promise 1 for power loss: at every point of a run, what a disk may hold then keeps all that was acknowledged.

The model and its limits: harness/power.py.
"""

from __future__ import annotations

import random

import pytest

from tests.faults.harness.bench import Bench, Place
from tests.faults.harness.laws import expected, unacknowledged
from tests.faults.harness.power import Call, Disk, Loss, read_log
from tests.faults.harness.shim import Arm

SCENARIOS = [
    "put_small",
    "put_many_blocks",
    "put_large_blocks",
    "put_group",
    "put_at_once",
    "remove_and_put",
    "init",
    "back_up",
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_power_may_go_at_any_call(bench: Bench, scenario: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    place = bench.place(scenario)
    disk = Disk(place.watch)
    log = place.watch.with_suffix(".log")
    outcome = bench.run(scenario, place, Arm(log=str(log)))
    assert outcome.of("done"), outcome
    said: list[tuple[str, str]] = []
    calls = list(read_log(log))
    assert [call.one for call in calls if call.kind == "note"], "no acknowledgement was logged"
    for number, call in enumerate(calls):
        disk.apply(call)
        if call.kind == "note":
            verb, _, subject = call.one.partition(" ")
            said.append((verb, subject))
        if _is_tried(bench, call, number):
            _check_images(bench, scenario, disk, said, number, seed)
    log.unlink()
    place.remove()


def _is_tried(bench: Bench, call: Call, number: int) -> bool:
    """The short form looks after each acknowledgement and at some of the other calls."""
    return call.kind == "note" or number % bench.reach.steps(19) == 0


def _check_images(bench: Bench, scenario: str, disk: Disk, said: list[tuple[str, str]], number: int, seed: int) -> None:
    must, gone = expected(scenario, said)
    if ("done", "") not in said:
        must, gone = unacknowledged(scenario, must, gone)
    mixed = range(bench.reach.times(1, 4))
    for loss, chance in [(Loss.LEAST, 0), (Loss.NAMES, 0), *((Loss.MIXED, seed + number + one) for one in mixed)]:
        image = bench.empty_place()
        disk.write_image(image.watch, loss, chance)
        _check(bench, scenario, image, must, gone, f"power gone after call {number}, {loss.value} with seed {chance}")
        bench.figures.add(f"power loss: {scenario}, {loss.value}")


def _check(bench: Bench, scenario: str, image: Place, must: set[str], gone: set[str], context: str) -> None:
    bench.check_store(scenario, image, must, gone, context)
    image.remove()
