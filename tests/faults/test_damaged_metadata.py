"""Random bits of the metadata file flipped: right data or a typed error, never a wrong byte, a crash or a hang."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.faults.harness.bench import Bench
from tests.faults.harness.shim import Act, Arm

_POSITIONS = (500, 2_000)
"""At random, of a file of 52 KiB; others each time. The second is for the long form."""

_HEADER_BYTES = 100
"""SQLite's header, and more than that of its WAL: every byte of it, besides."""

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
    positions = [*range(_HEADER_BYTES), *(chance.randrange(size) for _ in range(bench.reach.times(*_POSITIONS)))]
    flips = [(file, at, chance.randrange(8)) for at in positions]
    told = 0
    for start in range(0, len(flips), _PER_PROCESS):
        some = flips[start : start + _PER_PROCESS]
        outcome = bench.children.run("damaged_metadata", sound=sound, work=sound.with_name("work"), flips=some)
        assert outcome.of("checked"), (f"seed {seed}", some, outcome)
        assert not outcome.of("broken"), f"seed {seed}: {outcome.of('broken')[0]}"
        told += len(outcome.of("told"))
    bench.figures.add(f"damage: bits of {file}", len(flips))
    bench.figures.add(f"damage: bits of {file} that were noticed", told)
    assert told, "no flipped bit was noticed at all"
    shutil.rmtree(sound.parent)


def test_a_damage_that_sqlite_tells_once_is_found(bench: Bench) -> None:
    """A pointer of the table of pages that leads out of its page: the first reader of a connection gets an error, the
    second the right bytes, so that `verify` passed it by (found by the test above)."""
    sound = _sound_store(bench, "meta.sqlite")
    flip = ("meta.sqlite", 32_778, 6)
    outcome = bench.children.run("damaged_metadata", sound=sound, work=sound.with_name("work"), flips=[flip])
    assert outcome.of("told"), outcome
    assert not outcome.of("broken"), outcome.of("broken")[0]
    shutil.rmtree(sound.parent)
