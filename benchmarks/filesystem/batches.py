"""What a file of a small batch costs: call by call from Python, and by the kernel with the GIL released.

`PYTHONPATH=src python benchmarks/filesystem/batches.py FOLDER [--rounds N]`: prints one JSON object per way with the
medians of all rounds, which take turns. Processor time is steadier than wall time on a machine that others use; on
tmpfs (a FOLDER in /dev/shm) no disk has a say. Deletes nothing while it measures (see measure.py). Remove FOLDER
afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from graviton.backends.filesystem import FsBlockStore, FsConfig, _batch
from graviton.backends.filesystem._disk import Disk
from graviton.core.buffers import Buffer
from graviton.core.chunking import select_kernel
from graviton.core.files import FileBatches, PythonFileBatches
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode

PLAN = BlockWritePlan(WriteMode.ALWAYS)
COUNT, BATCH, SIZE = 4000, 1000, 4096
PAUSE_SECONDS = 0.3


class Metered:
    """Adds up the time its calls take, on all threads: the system's work, and nothing that needs the GIL for the
    kernel's."""

    def __init__(self, inner: FileBatches) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.cpu = {"write_files": 0.0, "rename_files": 0.0}

    def write_files(self, folder: int, names: Sequence[str], buffers: Sequence[Buffer], mode: int) -> None:
        """See `FileBatches`."""
        self._time("write_files", lambda: self._inner.write_files(folder, names, buffers, mode))

    def rename_files(self, folder: int, olds: Sequence[str], news: Sequence[str]) -> None:
        """See `FileBatches`."""
        self._time("rename_files", lambda: self._inner.rename_files(folder, olds, news))

    def _time(self, name: str, call: Callable[[], None]) -> None:
        begin = time.thread_time()
        call()
        with self._lock:
            self.cpu[name] += time.thread_time() - begin


class Way(NamedTuple):
    """How the files are written."""

    name: str
    batches: Callable[[], FileBatches]
    threads: int


WAYS = (
    Way("call by call from Python", lambda: PythonFileBatches(Disk()), 1),
    Way("kernel, 1 thread", lambda: select_kernel("native"), 1),
    Way("kernel, 2 threads", lambda: select_kernel("native"), 2),
)


class Neighbour:
    """A thread that computes in Python all the time, as an event loop under load does."""

    def __init__(self) -> None:
        self.turns = 0
        self._over = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._over:
            sum(range(200))
            self.turns += 1

    def end(self) -> None:
        """Stop and wait."""
        self._over = True
        self._thread.join()


def blocks_of(count: int) -> list[CanonicalBlock]:
    """Random blocks."""
    payloads = [os.urandom(SIZE) for _ in range(count)]
    return [CanonicalBlock(BlockKey(HashAlgo.SHA256.digest(data), SIZE), data) for data in payloads]


async def put_all(way: Way, place: Path, beside: bool) -> dict[str, float]:
    """Microseconds per file of one store; `beside` a busy neighbour only the wall time."""
    _batch._WRITERS = way.threads
    metered = Metered(way.batches())
    store = FsBlockStore(FsConfig(place), syncfs=select_kernel("native").syncfs, batches=metered)
    await store.put_blocks(blocks_of(1), PLAN)  # threads and folders are there
    blocks = blocks_of(COUNT)
    metered.cpu = dict.fromkeys(metered.cpu, 0.0)
    os.sync()
    await asyncio.sleep(PAUSE_SECONDS)
    neighbour = Neighbour() if beside else None
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, COUNT, BATCH):
        await store.put_blocks(blocks[start : start + BATCH], PLAN)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await store.aclose()
    if neighbour is not None:
        neighbour.end()
        return {"wall beside a busy thread": wall, "its turns per ms": neighbour.turns / wall / 1e3 / 1e6 * COUNT}
    return {"wall": wall, "cpu": cpu, **metered.cpu, "cpu elsewhere": cpu - sum(metered.cpu.values())}


async def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {way.name: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS:
            place = options.folder / f"{os.getpid()}-{number}-{WAYS.index(way)}"
            alone = await put_all(way, place / "alone", beside=False)
            rounds[way.name].append(alone | await put_all(way, place / "beside", beside=True))
    for name, values in rounds.items():
        medians = {what: round(median(one[what] for one in values) / COUNT * 1e6, 1) for what in values[0]}
        load = round(os.getloadavg()[0], 1)
        print(json.dumps({"way": name, "us per file": medians, "rounds": len(values), "load": load}))


if __name__ == "__main__":
    asyncio.run(main())
