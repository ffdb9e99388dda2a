"""Both chunkers in one process on one core, in turns: prints one line `ours theirs` in bytes per second per round.

`worker.py MIB ROUNDS`
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from benchmarks.chunkers.bench import MIB, independent, native, random_data
from graviton.core.chunking import DEFAULT_SPEC


def rate(size: int, work: Callable[[], int]) -> float:
    """Bytes per second of one run."""
    begin = time.perf_counter()
    work()
    return size / (time.perf_counter() - begin)


def main() -> None:
    """Measure, print."""
    size, rounds = int(sys.argv[1]) * MIB, int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    data = random_data(size)
    view = memoryview(data)
    for number in range(rounds + 1):
        ours = rate(size, lambda: native(data, DEFAULT_SPEC.text))
        theirs = rate(size, lambda: independent(view, DEFAULT_SPEC))
        if number:  # the first round warms up
            print(ours, theirs)


if __name__ == "__main__":
    main()
