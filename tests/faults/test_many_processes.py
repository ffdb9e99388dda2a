"""Eight processes at once: the same blobs and different ones, removed and put again, while each of them is checked."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from pathlib import Path

from tests.faults.harness.bench import Bench
from tests.faults.harness.processes import Children, Outcome
from tests.faults.harness.scenarios import KNOWN, OLD, TOGETHER

PROCESSES = 8


def _all_at_once(bench: Bench, root: Path, job: str, seeds: list[int], **arguments: object) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    servers = [Children(bench.shim) for _ in seeds]

    def run(server: Children, seed: int) -> None:
        outcomes[seed] = server.run(job, root=root, seed=seed, **arguments)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(servers, seeds, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()
    return [outcomes[seed] for seed in seeds]


def _check_all(outcomes: list[Outcome], seeds: list[int]) -> None:
    for outcome in outcomes:
        assert not outcome.hung, (seeds, outcome)
        assert not outcome.signal, (seeds, outcome)
        assert not outcome.of("foreign"), f"seeds {seeds}: {outcome.of('foreign')[0]}"
        assert not outcome.of("broken"), (seeds, outcome)
        for failed in outcome.of("failed"):
            code, hint = json.loads(failed)
            assert code == "unavailable", (seeds, outcome)
            assert hint, "busy, and no advice"


def _seeds() -> list[int]:
    first = random.SystemRandom().randrange(1 << 32)
    return list(range(first, first + PROCESSES))


def test_puts_removals_and_reads_in_eight_processes(bench: Bench) -> None:
    """Every process puts a few blobs of its own and several that all share, and removes only its own holder."""
    seeds = _seeds()
    place = bench.place("put_small")
    outcomes = _all_at_once(bench, place.root, "busy", seeds, steps=bench.reach.times(25, 300))
    _check_all(outcomes, seeds)
    must = {blob.id for blob in OLD}
    gone = Counter[str]()
    for outcome in outcomes:
        for subject, holds in json.loads(outcome.of("holds")[0]).items():
            (must.add(subject) if holds else gone.update([subject]))
    bench.check_store("put_at_once", place, must, set(gone) - must, f"seeds {seeds}")
    bench.figures.add("eight processes: steps", sum(int(one.of("steps")[0]) for one in outcomes))
    place.remove()


def test_eight_processes_make_the_same_store(bench: Bench) -> None:
    for _ in range(bench.reach.times(3, 40)):
        seeds = _seeds()
        place = bench.place("init")
        outcomes = _all_at_once(bench, place.root, "busy", seeds, steps=1)
        _check_all(outcomes, seeds)
        assert not bench.leftovers(place)
        bench.check_store("init", place, set(), set(), f"seeds {seeds}")
        bench.figures.add("eight processes: made one store")
        place.remove()


def test_the_blobs_are_known() -> None:
    """`busy` and the checks speak of the same blobs."""
    assert {blob.id for blob in TOGETHER} <= set(KNOWN)
