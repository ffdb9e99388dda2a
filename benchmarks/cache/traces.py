"""Fixed traces of block reads: the same requests in every run, on every machine.

Sizes are those of the `balanced` chunker, 256 KiB to 4 MiB with a mean near 1.2 MiB. The footprint of each trace is
several times the cache's size, `LIMIT`.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate

__all__ = ["FURTHER", "LIMIT", "OTHERS", "TRACES", "Request"]

Request = tuple[int, int]
"""Number and size in bytes of a block."""

LIMIT = 2 << 30
"""Bytes of the simulated cache: some 1,750 blocks."""

_SEED = 2026


def zipf() -> Iterator[Request]:
    """A working set: 300,000 reads of 20,000 blocks, the n-th most popular one read 1/n^0.9 as often as the first."""
    draw = _Zipf(20_000, 0.9, random.Random(_SEED))
    for _ in range(300_000):
        yield _sized(draw())


def scans() -> Iterator[Request]:
    """The same popularity with passes over everything in between: after every 10,000 reads of 10,000 blocks, 5,000
    others are read once from first to last and never again: a backup, a restore."""
    draw = _Zipf(10_000, 0.9, random.Random(_SEED + 1))
    for turn in range(20):
        for _ in range(10_000):
            yield _sized(draw())
        for number in range(5_000):
            yield _sized(1_000_000 + turn * 5_000 + number)


def shifting() -> Iterator[Request]:
    """What is read changes, and a loop: 30 days of 8,000 reads of 6,000 popular blocks, of which a quarter is new every
    day; and every night the same 2,600 blocks, one and a half caches, are read in order (a nightly job)."""
    return _days(passes=1)


def loops() -> Iterator[Request]:
    """The same, but the job runs three times in a row: half of all reads are a loop that fits into no cache."""
    return _days(passes=3)


def news(blocks: int = 3_000) -> Iterator[Request]:
    """Nothing lasts: 20 days of 6,000 reads of 3,000 blocks, all of them new every day."""
    draw = _Zipf(blocks, 0.9, random.Random(_SEED + 3))
    for day in range(20):
        for _ in range(6_000):
            yield _sized(day * blocks + draw())


def drift() -> Iterator[Request]:
    """A working set that moves: 200,000 reads of 6,000 popular blocks, the oldest of which makes room for a new one,
    as popular, after every 20."""
    draw = _Zipf(6_000, 0.9, random.Random(_SEED + 4))
    ranks = random.Random(_SEED + 5).sample(range(6_000), 6_000)
    places = list(range(6_000))
    for number in range(200_000):
        if number % 20 == 0:
            places[ranks[number // 20 % 6_000]] = 10_000 + number
        yield _sized(places[draw()])


def recent() -> Iterator[Request]:
    """What was read lately is read next: 200,000 reads, each of the block before which as many others were read since
    as a Pareto distribution says, or of a new one if there are not so many."""
    rng = random.Random(_SEED + 6)
    read: list[int] = []
    for number in range(200_000):
        others = int(300 * (rng.paretovariate(0.5) - 1))
        read.append(read.pop(-1 - others) if others < len(read) else number)
        yield _sized(read[-1])


def _days(passes: int, job: int = 2_600) -> Iterator[Request]:
    rng = random.Random(_SEED + 2)
    draw = _Zipf(6_000, 0.9, rng)
    places = list(range(6_000))
    new = 10_000
    for _ in range(30):
        for place in rng.sample(range(6_000), 1_500):
            places[place] = new
            new += 1
        for _ in range(8_000):
            yield _sized(places[draw()])
        for _ in range(passes):
            for number in range(job):
                yield _sized(5_000_000 + number)


TRACES: dict[str, Callable[[], Iterator[Request]]] = {"zipf": zipf, "scans": scans, "loops": loops}
"""Chosen before anything was measured: on each of these the cache's policy is to have 0.95 of the best."""

OTHERS: dict[str, Callable[[], Iterator[Request]]] = {"shifting": shifting, "news": news}
"""A milder loop, and where W-TinyLFU fails: shown, so that nobody is surprised."""

FURTHER: dict[str, Callable[[], Iterator[Request]]] = {
    **{
        f"a job of {job:,} blocks, {passes} times": partial(_days, passes, job)
        for job in (1_500, 3_500, 4_500)
        for passes in (1, 3, 6)
    },
    **{f"news, {blocks:,} blocks": partial(news, blocks) for blocks in (1_500, 6_000)},
    "drift": drift,
    "recent": recent,
}
"""Thirteen more, which came later: a constant is not to be chosen by five."""


class _Zipf:
    """Ranks from 0, drawn by their popularity."""

    def __init__(self, count: int, exponent: float, rng: random.Random) -> None:
        self._sums = list(accumulate(1 / rank**exponent for rank in range(1, count + 1)))
        self._rng = rng

    def __call__(self) -> int:
        return bisect_left(self._sums, self._rng.random() * self._sums[-1])


_sizes: dict[int, int] = {}


def _sized(number: int) -> Request:
    """The block with its size: an exponential one above 256 KiB, cut at 4 MiB."""
    size = _sizes.get(number)
    if size is None:
        beyond = random.Random(number).expovariate(1 / (1 << 20))
        size = _sizes[number] = min((256 << 10) + int(beyond), 4 << 20)
    return number, size
