"""How fast the filesystem and SQLite backends make things durable here, and by which way.

`PYTHONPATH=src python benchmarks/filesystem/measure.py FOLDER [--rounds N]`: prints one JSON object per figure with all
rounds, in the order measured. Deletes nothing while it measures: on ext4 a file created within five seconds of many
deletions looks for an inode that was not just freed, and measured ten times slower. Remove FOLDER afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from graviton.backends.filesystem import FsBlockStore, FsConfig
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.core.chunking._kernel import PythonKernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.kv import Durability, Transaction

PLAN = BlockWritePlan(WriteMode.ALWAYS)
MIB = 1 << 20
PAUSE_SECONDS = 0.5
"""Between figures, so that one does not pay for the other's discards and checkpoints."""


def blocks_of(count: int, size: int) -> list[CanonicalBlock]:
    """Random blocks."""
    made = []
    for _ in range(count):
        data = os.urandom(size)
        made.append(CanonicalBlock(BlockKey(HashAlgo.SHA256.digest(data), size), data))
    return made


class Report:
    """Collects rounds and prints them."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self._number = 0

    def place(self) -> Path:
        """A new folder."""
        self._number += 1
        return self.folder / f"{os.getpid()}-{self._number}"

    async def figure(self, name: str, unit: str, measure: Callable[[], Awaitable[float]]) -> None:
        """Measure and print one figure."""
        values = []
        for _ in range(self.rounds):
            os.sync()
            await asyncio.sleep(PAUSE_SECONDS)
            values.append(round(await measure(), 3))
        print(json.dumps({"figure": name, "unit": unit, "median": sorted(values)[len(values) // 2], "rounds": values}))


async def put_batches(store: FsBlockStore, blocks: list[CanonicalBlock], size: int) -> float:
    """Seconds to put `blocks` in batches of `size`, one after the other."""
    await store.put_blocks(blocks_of(1, 100), PLAN)  # threads and folders are there
    begin = time.perf_counter()
    for start in range(0, len(blocks), size):
        await store.put_blocks(blocks[start : start + size], PLAN)
    seconds = time.perf_counter() - begin
    await store.aclose()
    return seconds


async def block_figures(report: Report) -> None:
    """Blocks by size, way and threads."""
    syncfs = PythonKernel().syncfs
    large = blocks_of(256, MIB)
    for workers in (1, 2, 4, 8):

        async def by_fsync(workers: int = workers) -> float:
            store = FsBlockStore(FsConfig(report.place(), fsync_workers=workers))
            return 256 * MIB / await put_batches(store, large, 16) / 1e9

        await report.figure(
            f"1 MiB blocks, batches of 16, early write-back + fsync, {workers} threads", "GB/s", by_fsync
        )
    for count, size in ((4, 4096), (8, 4096), (64, 4096), (1000, 4096), (256, 16384), (256, 65536), (64, 262144)):
        blocks = blocks_of(count * 4, size)
        for way in ("fsync", "syncfs"):

            async def either(way: str = way, blocks: list[CanonicalBlock] = blocks, count: int = count) -> float:
                config = FsConfig(report.place(), syncfs_min_files=2, syncfs_max_mean_bytes=MIB)
                store = FsBlockStore(config, syncfs=syncfs if way == "syncfs" else None)
                return len(blocks) / await put_batches(store, blocks, count)

            await report.figure(f"{size} byte blocks, batches of {count}, {way}", "blocks/s", either)


async def single_figures(report: Report) -> None:
    """One 4 KiB block at a time, beside the bare system calls."""
    blocks = blocks_of(300, 4096)

    async def puts() -> float:
        return await put_batches(FsBlockStore(FsConfig(report.place())), blocks, 1) / 300 * 1e6

    async def bare() -> float:
        place = report.place()
        place.mkdir(parents=True)
        folder = os.open(place, os.O_RDONLY)
        begin = time.perf_counter()
        for n, block in enumerate(blocks):
            fd = os.open(f".{n}", os.O_WRONLY | os.O_CREAT, 0o400, dir_fd=folder)
            os.write(fd, block.payload)
            os.fsync(fd)
            os.close(fd)
            os.rename(f".{n}", f"{n}", src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        seconds = time.perf_counter() - begin
        os.close(folder)
        return seconds / 300 * 1e6

    async def concurrent() -> float:
        store = FsBlockStore(FsConfig(report.place()))
        await store.put_blocks(blocks_of(1, 100), PLAN)
        begin = time.perf_counter()
        await asyncio.gather(*(store.put_blocks([block], PLAN) for block in blocks))
        seconds = time.perf_counter() - begin
        await store.aclose()
        return 300 / seconds

    async def gets() -> float:
        store = FsBlockStore(FsConfig(report.place()))
        await store.put_blocks(blocks, PLAN)
        begin = time.perf_counter()
        for block in blocks:
            await store.get(block.key)
        seconds = time.perf_counter() - begin
        await store.aclose()
        return seconds / 300 * 1e6

    await report.figure("put of one 4 KiB block", "us", puts)
    await report.figure("the same system calls without us", "us", bare)
    await report.figure("300 puts of one 4 KiB block at once", "puts/s", concurrent)
    await report.figure("get of one 4 KiB block, cached", "us", gets)


async def sqlite_figures(report: Report) -> None:
    """Transactions of one row, and what a checkpoint costs the commit that does it."""
    for level in Durability:

        async def one_row(level: Durability = level) -> float:
            latencies = await transactions(report.place(), level, 1000)
            return sum(latencies) / len(latencies) * 1e6

        await report.figure(f"SQLite transaction of one 200 byte row, {level.value}", "us", one_row)

    async def worst() -> float:
        return max(await transactions(report.place(), Durability.FULL, 1000)) * 1e3

    async def together() -> float:
        store = SqliteKeyValueStore(SqliteConfig(report.place() / "meta.sqlite"))
        await store.put("a", b"first", b"")
        begin = time.perf_counter()
        await asyncio.gather(*(store.transact(putting(n)) for n in range(2000)))
        seconds = time.perf_counter() - begin
        await store.aclose()
        return 2000 / seconds

    await report.figure("the slowest of 1,000 such FULL transactions (checkpoints)", "ms", worst)
    await report.figure("2,000 FULL transactions at once (group commit)", "transactions/s", together)


def putting(n: int) -> Callable[[Transaction], None]:
    """A transaction of one row under a random-looking key."""
    key = HashAlgo.SHA256.digest(b"%d" % n).raw
    return lambda tx: tx.put("a", key, b"x" * 200)


async def transactions(place: Path, level: Durability, count: int) -> list[float]:
    """Seconds of each of `count` transactions."""
    store = SqliteKeyValueStore(SqliteConfig(place / "meta.sqlite"))
    await store.put("a", b"first", b"")
    latencies = []
    for n in range(count):
        begin = time.perf_counter()
        await store.transact(putting(n), level)
        latencies.append(time.perf_counter() - begin)
    await store.aclose()
    return latencies


async def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    report = Report(options.folder, options.rounds)
    await single_figures(report)
    await sqlite_figures(report)
    await block_figures(report)


if __name__ == "__main__":
    asyncio.run(main())
