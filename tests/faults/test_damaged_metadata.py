"""Random bits of the metadata file flipped: right data or a typed error, never a wrong byte, a crash or a hang."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.faults.harness.bench import Bench
from tests.faults.harness.shim import Act, Arm

_PER_PROCESS = 50


def _sound_store(bench: Bench, file: str) -> Path:
    """A store that was closed, or one whose process was killed, with everything still in the WAL."""
    place = bench.place("put_small")
    if file == "meta.sqlite-wal":
        shutil.rmtree(place.root)
        outcome = bench.children.run("template_killed", Arm(Act.COUNT), root=place.root)
        assert outcome.signal, outcome
        (place.root / "meta.sqlite-shm").unlink()
    return place.root


@pytest.mark.parametrize("file", ["meta.sqlite", "meta.sqlite-wal"])
def test_flipped_bits(bench: Bench, file: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    sound = _sound_store(bench, file)
    size = (sound / file).stat().st_size
    times = bench.reach.times(250, 2_000)
    flips = [(file, chance.randrange(size), chance.randrange(8)) for _ in range(times)]
    flips[: min(100, times)] = [(file, at, chance.randrange(8)) for at in range(100)]  # headers, every byte
    told = 0
    for start in range(0, times, _PER_PROCESS):
        some = flips[start : start + _PER_PROCESS]
        outcome = bench.children.run("damaged_metadata", sound=sound, work=sound.with_name("work"), flips=some)
        assert outcome.of("checked"), (f"seed {seed}", some, outcome)
        assert not outcome.of("broken"), f"seed {seed}: {outcome.of('broken')[0]}"
        told += len(outcome.of("told"))
    bench.figures.add(f"damage: bits of {file}", times)
    bench.figures.add(f"damage: bits of {file} that were noticed", told)
    assert told, "no flipped bit was noticed at all"
    shutil.rmtree(sound.parent)
