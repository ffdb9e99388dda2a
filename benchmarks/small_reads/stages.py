"""`python -m benchmarks.small_reads.stages`: where the time of a get of 4 KiB goes, in microseconds per blob.

Stages run in place on one thread, sixteen blobs at a time where a group would; the whole gets as a program makes them.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable

import graviton
from benchmarks.__main__ import WORK
from benchmarks.harness.space import Space
from benchmarks.small_blobs.worker import blobs
from graviton.concurrency.blocking import declare_blocking_thread
from graviton.core.keys import BlobKey, BlockKey
from graviton.stores.cas import CasBlobStore

GROUP = 16
REPEATS = 300
TRIES = 5

Stage = Callable[[], Awaitable[object]]


async def timed(name: str, stage: Stage, each: int = 1) -> None:
    """Print the fastest of some tries: what disturbs only makes it slower."""
    best = float("inf")
    for _ in range(TRIES):
        begin = time.perf_counter()
        for _ in range(REPEATS):
            await stage()
        best = min(best, time.perf_counter() - begin)
    print(f"{name:44} {best / REPEATS / each * 1e6:7.1f}")


async def whole(store: graviton.Store, keys: list[BlobKey]) -> None:
    """Gets from beginning to end, one at a time and sixteen at once."""

    async def read() -> None:
        async with await store.get(random.choice(keys)) as reader:
            await reader.read()

    await timed("get and read, one after the other", read)
    await timed("get and read, 16 at once", lambda: asyncio.gather(*(read() for _ in range(GROUP))), GROUP)


async def stages(cas: CasBlobStore, keys: list[BlobKey]) -> None:
    """What is in them, on a thread that may block: this one, from now on."""
    declare_blocking_thread()

    def some() -> list[BlobKey]:
        return random.choices(keys, k=GROUP)

    async def read_blocks() -> None:
        for key in some():
            await cas.blocks.get(BlockKey(key.digest, key.size))

    async def plain_reads() -> None:
        for key in some():
            fd = os.open(cas.blocks.block_path(BlockKey(key.digest, key.size)), os.O_RDONLY | os.O_CLOEXEC)  # type: ignore[attr-defined]
            os.fstat(fd)
            os.read(fd, key.size)
            os.close(fd)

    await timed("records of 16, one transaction", lambda: cas.manifests.find(some()), GROUP)
    await timed("record of one", lambda: cas.manifests.find(random.choices(keys)))
    await timed("blocks, verified", read_blocks, GROUP)
    await timed("  of this, open, fstat, read, close", plain_reads, GROUP)


async def measure(space: Space) -> None:
    """All of it, over a new store."""
    async with graviton.open(space.fresh("stages") / "store") as store:
        keys = [result.key async for result in store.put_many(blobs(0, 2000))]
        await whole(store, keys)
        await stages(await store.required(), keys)


if __name__ == "__main__":
    with Space(WORK) as space:
        asyncio.run(measure(space))
