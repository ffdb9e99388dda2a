"""kill -9 of a process with an upload on its way, or a system call of it that fails; another process goes on."""

from __future__ import annotations

import errno
import random
import signal

import pytest

from tests.faults.harness.bench import Bench
from tests.faults.harness.shim import Act, Arm, Calls

_STEP = 29
"""Between the calls that are tried in the short form; some of each kind come up."""


def _try(bench: Bench, arm: Arm, kill_after: float = 0.0) -> tuple[int, bool]:
    """Run an upload under a fault and go on with it; what killed it, and whether it came to its end."""
    place = bench.place("upload")
    outcome = bench.children.run("upload", arm, kill_after, root=place.root, watch=place.watch)
    assert not outcome.hung, (arm, outcome)
    assert not outcome.of("foreign"), f"{arm}: {outcome.of('foreign')[0]}"
    then = bench.children.run("upload_goes_on", root=place.root, said=outcome.said)
    assert then.said == [("checked", "")], f"{arm} {outcome.said}: {then.of('broken') or then}"
    place.remove()
    return outcome.signal, bool(outcome.of("done"))


@pytest.mark.parametrize(("act", "calls"), [(Act.KILL, Calls.CHANGES), (Act.TORN_KILL, Calls.WRITE)])
def test_killed_at_every_call_another_process_goes_on(bench: Bench, act: Act, calls: Calls) -> None:
    n = 1 + (act is Act.TORN_KILL) * 5
    while True:
        killed, is_done = _try(bench, Arm(act, n, calls=calls))
        if not killed:
            assert is_done
            break
        assert killed == signal.SIGKILL
        bench.figures.add(f"kill: upload, {act.name.lower()}")
        n += bench.reach.steps(_STEP)
    assert n > 100


def test_killed_at_random_moments(bench: Bench) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    for _ in range(bench.reach.times(6, 100)):
        seconds = chance.uniform(0.005, 0.25)
        killed, _ = _try(bench, Arm(), kill_after=seconds)
        bench.figures.add("kill: upload, at random moments", int(killed == signal.SIGKILL))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_every_call_that_fails(bench: Bench, number: int) -> None:
    n = 3 + number % _STEP
    while True:
        _try(bench, Arm(Act.FAIL, n, number, calls=Calls.SPACE))
        bench.figures.add(f"failed call: upload, {errno.errorcode[number]}")
        n += bench.reach.steps(_STEP)
        if n > 250:
            break
