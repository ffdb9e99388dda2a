"""The same faults under whole commands: one line that says what to do, exit code 1, and never half a file."""

from __future__ import annotations

import errno
import itertools

import pytest

from tests.faults.harness.bench import Bench, Place
from tests.faults.harness.processes import Outcome
from tests.faults.harness.scenarios import OLD, SMALL
from tests.faults.harness.shim import Act, Arm, Calls

COMMANDS = {
    "get": ["get", OLD[1].id, "-o", "{watch}/out"],
    "put": ["put", "{watch}/input"],
    "rm": ["rm", OLD[1].id],
    "backup": ["meta", "backup", "{watch}/backup.meta"],
}

FAULTS = {
    "no_space": Arm(Act.FAIL, errno=errno.ENOSPC),
    "io_error": Arm(Act.FAIL, errno=errno.EIO),
    "read_error": Arm(Act.FAIL, errno=errno.EIO, calls=Calls.READ),
    "short_write": Arm(Act.SHORT, calls=Calls.WRITE),
}


def _run(bench: Bench, place: Place, name: str, arm: Arm) -> Outcome:
    (place.watch / "input").write_bytes(SMALL.data)
    verb, *rest = [part.format(watch=place.watch) for part in COMMANDS[name]]
    split = 1 + (verb == "meta")
    words = [verb, *rest]
    argv = [*words[:split], "--root", str(place.root), *words[split:]]
    outcome = bench.children.run("command", arm, watch=place.watch, argv=argv)
    assert not outcome.hung, (argv, arm)
    assert not outcome.of("foreign"), f"{argv} {arm}: {outcome.of('foreign')[0]}"
    return outcome


def _check_files(bench: Bench, place: Place, name: str, context: object) -> None:
    out = place.watch / "out"
    assert not out.exists() or out.read_bytes() == OLD[1].data, f"{context}: half a file under its final name"
    scenario = {"get": "read_all", "put": "put_small", "rm": "remove", "backup": "back_up"}[name]
    must = {blob.id for blob in OLD} - ({OLD[1].id} if name == "rm" else set())
    bench.check_store(scenario, place, must, set(), context)


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_each_failing_call_of_a_command(bench: Bench, name: str, kind: str) -> None:
    for n in itertools.count(1):
        place = bench.place("put_small")
        arm = FAULTS[kind]._replace(n=n)
        outcome = _run(bench, place, name, arm)
        [code], [text] = outcome.of("exit"), outcome.of("stderr")
        assert code in ("0", "1"), (name, arm, outcome)
        assert "Traceback" not in text, text
        assert code == "0" or text.strip(), (name, arm, "failed without a word")
        assert code == "0" or kind != "short_write", (name, arm, text)
        assert len(bench.leftovers(place)) <= 1, (name, arm, bench.leftovers(place))  # if removing it is what failed
        _check_files(bench, place, name, (name, arm, outcome))
        place.remove()
        if not outcome.reached:
            break
        bench.figures.add(f"fault: {kind}, command {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_every_call(bench: Bench, name: str) -> None:
    for n in itertools.count(1):
        place = bench.place("put_small")
        outcome = _run(bench, place, name, arm := Arm(Act.TORN_KILL, n))
        _check_files(bench, place, name, (name, arm, outcome))
        place.remove()
        if not outcome.signal:
            assert outcome.of("exit") == ["0"], outcome
            break
        bench.figures.add(f"kill: command {name}")
