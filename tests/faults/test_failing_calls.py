"""The n-th file system call failing, for n = 1, 2, 3 ... until the work passes without having met a fault."""

from __future__ import annotations

import errno
import itertools
import json
from typing import NamedTuple

import pytest

from tests.faults.harness.bench import Bench
from tests.faults.harness.processes import Outcome
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


class Fault(NamedTuple):
    """A kind of fault and how it may show."""

    act: Act
    number: int
    calls: Calls
    codes: frozenset[str]
    """Error codes that say it right."""


FAULTS = {
    "no_space": Fault(Act.FAIL, errno.ENOSPC, Calls.CHANGES, frozenset({"storage_full", "unavailable"})),
    "disk_stays_full": Fault(Act.FAIL_ON, errno.ENOSPC, Calls.SPACE, frozenset({"storage_full", "unavailable"})),
    "io_error": Fault(Act.FAIL, errno.EIO, Calls.CHANGES, frozenset({"unavailable"})),
    "read_error": Fault(Act.FAIL, errno.EIO, Calls.READ, frozenset({"unavailable", "integrity"})),
    "interrupted": Fault(Act.FAIL, errno.EINTR, Calls.CHANGES, frozenset({"unavailable"})),
    "short_write": Fault(Act.SHORT, 0, Calls.WRITE, frozenset()),
    "short_write_then_full": Fault(Act.SHORT, errno.ENOSPC, Calls.SPACE, frozenset({"storage_full", "unavailable"})),
    "no_handles": Fault(Act.FAIL, errno.EMFILE, Calls.OPEN, frozenset({"unavailable"})),
}
"""SQLite names ENOSPC only for writes; a failed fsync or a WAL index that cannot grow is an I/O error to it, and a page
that cannot be read is a damaged file."""


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("scenario", CHANGING)
def test_each_failing_call_is_one_typed_error_and_leaves_nothing(bench: Bench, scenario: str, kind: str) -> None:
    fault = FAULTS[kind]
    for n in bench.reach.calls(scenario, 13, shift=list(FAULTS).index(kind)):
        place = bench.place(scenario)
        arm = Arm(fault.act, n, fault.number, fault.calls)
        outcome = bench.run(scenario, place, arm, again=True)
        _check_outcome(bench, scenario, kind, outcome, arm)
        bench.check(scenario, place, outcome, arm)
        place.remove()
        if not outcome.reached:
            break
        bench.figures.add(f"fault: {kind}, {scenario}")


def _check_outcome(bench: Bench, scenario: str, kind: str, outcome: Outcome, arm: Arm) -> None:
    context = (scenario, kind, arm, outcome)
    codes = outcome.of("failed")
    assert outcome.signal == 0, context
    assert set(codes) <= FAULTS[kind].codes, context
    assert not outcome.of("close failed"), context
    # Whatever went wrong is over: the same store object works, without being opened anew.
    assert outcome.of("done again"), context
    left = json.loads(outcome.of("left")[0])
    # One name may stay if it was its removal that failed; with a disk on which nothing works any more, several.
    allowed = 0 if kind in ("short_write", "disk_stays_full", "short_write_then_full", "no_handles") else 1
    assert len(left) <= allowed, context


@pytest.mark.parametrize("kind", ["io_error", "read_error", "interrupted", "no_handles"])
def test_reading_survives_each_failing_call(bench: Bench, kind: str) -> None:
    fault = FAULTS[kind]
    calls = fault.calls | (Calls.READ if kind == "interrupted" else Calls(0))
    for n in itertools.count(1):
        place = bench.place("read_all")
        outcome = bench.run("read_all", place, arm := Arm(fault.act, n, fault.number, calls), again=True)
        _check_outcome(bench, "read_all", kind, outcome, arm)
        bench.check("read_all", place, outcome, arm)
        place.remove()
        if not outcome.reached:
            break
        bench.figures.add(f"fault: {kind}, read_all")
