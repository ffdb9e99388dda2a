"""What the tests of one run share: the compiled shim, the server, the template store, and places for cases."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.machine import describe
from tests.faults.harness.checker import Checker
from tests.faults.harness.laws import expected, temporary_files, unacknowledged
from tests.faults.harness.processes import Children, Outcome
from tests.faults.harness.scenarios import SCENARIOS, SMALL_WORKS, begins_empty
from tests.faults.harness.shim import Arm, build


class Reach(NamedTuple):
    """How far a run goes: the suite's short form or a campaign."""

    is_long: bool

    def calls(self, scenario: str, short: int, shift: int = 0) -> Iterator[int]:
        """Which calls of a scenario are tried: 1, 2, 3 ..., but in the short form of larger works only every
        `short`-th, beginning somewhere else for each `shift`."""
        step = 1 if self.is_long else SMALL_WORKS.get(scenario, short)
        return itertools.count(1 + shift % step, step)

    def steps(self, short: int, long: int = 1) -> int:
        """The distance between two points that are tried."""
        return long if self.is_long else short

    def times(self, short: int, long: int) -> int:
        """How often something random is done."""
        return long if self.is_long else short


class Figures:
    """How often what was injected, for the campaign's results."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count `what`."""
        self.counts[what] += count

    def save(self, path: Path, tests: dict[str, int]) -> None:
        """Write them down, with the machine and what became of the tests."""
        machine = describe(path.parent) | {"took": f"{(time.monotonic() - self._began) / 60:.1f} minutes"}
        found = {"machine": machine, "tests": tests, "injected": dict(sorted(self.counts.items()))}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")


class Place(NamedTuple):
    """Where one case happens; the shim watches `watch` with everything in it."""

    watch: Path

    @property
    def root(self) -> Path:
        """The store."""
        return self.watch / "store"

    def remove(self) -> None:
        """Give the room back."""
        shutil.rmtree(self.watch)


class Bench:
    """Runs scenarios under faults and checks what they leave."""

    def __init__(self, folder: Path, reach: Reach, figures: Figures) -> None:
        self.reach, self.figures = reach, figures
        self.shim = build(folder)
        self.children = Children(self.shim)
        self._checker = Checker()
        # Memory where there is some: what a crash of a process leaves behind does not depend on the disk below.
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
        self._folder = Path(tempfile.mkdtemp(prefix="graviton-faults-", dir=base))
        self._template = self._folder / "template"
        outcome = self.children.run("template", root=self._template)
        assert not outcome.said, outcome
        self._numbers = itertools.count()

    def close(self) -> None:
        """End the processes and remove everything."""
        self.children.close()
        self._checker.close()
        shutil.rmtree(self._folder)

    def place(self, scenario: str, folder: Path | None = None) -> Place:
        """A new place, with the template's store unless the scenario makes its own."""
        place = Place((folder or self._folder) / f"case-{next(self._numbers)}")
        place.watch.mkdir()
        if not begins_empty(scenario):
            shutil.copytree(self._template, place.root)
        return place

    def empty_place(self) -> Place:
        """Where something else will make a folder."""
        return Place(self._folder / f"case-{next(self._numbers)}")

    def run(self, scenario: str, place: Place, arm: Arm, again: bool = False, kill_after: float = 0.0) -> Outcome:
        """Run a scenario under a fault. A hang or an exception that is not ours is a failure whatever the fault was."""
        outcome = self.children.run(
            "scenario", arm, kill_after, name=scenario, root=place.root, watch=place.watch, again=again
        )
        assert not outcome.hung, (scenario, arm, outcome)
        assert not outcome.of("foreign"), f"{scenario} {arm}: {outcome.of('foreign')[0]}"
        assert not outcome.of("wrong"), (scenario, arm, outcome)
        return outcome

    def check(self, scenario: str, place: Place, outcome: Outcome, context: object) -> None:
        """Check every law in another process. `context` says how to repeat the case."""
        must, gone = expected(scenario, outcome.said)
        if not outcome.of("done") and not outcome.of("done again"):
            must, gone = unacknowledged(scenario, must, gone)
        self.check_store(scenario, place, must, gone, context)

    def check_store(
        self, scenario: str, place: Place, must: set[str], gone: set[str], context: object, *, is_copy: bool = False
    ) -> None:
        """As `check`, where it is known what must be there and what must not."""
        puts = [blob.id for blob in SCENARIOS[scenario].blobs]
        broken = self._checker.broken(place.root, must, gone, puts, is_copy=is_copy)
        assert broken == [], f"{scenario} {context}: {broken}"

    def leftovers(self, place: Place) -> list[str]:
        """Temporary files."""
        return temporary_files(place.watch)
