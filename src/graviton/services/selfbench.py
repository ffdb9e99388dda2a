"""`graviton bench`: this machine's own speed for this work, in half a minute at most, in a scratch folder.

Every figure is the median of a few runs; how few depends on how long they take. The comparison with other tools is
`make bench`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple, Protocol

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.chunking import DEFAULT_SPEC, Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobReader, BlobSource, BlobWriteResult
from graviton.ports.kv import KeyValueStore

__all__ = ["BenchPlan", "BenchStore", "Measure", "measure_all"]

_RUNS = 5
_SECONDS_PER_FIGURE = 1.2
"""No further run of a figure is begun after that; with twelve figures the whole stays below 20 seconds."""

_SMALL_BYTES = 4096
_FILL_BYTES = 1 << 22


class BenchPlan(NamedTuple):
    """How much is done."""

    memory_bytes: int = 64 << 20
    """Cut and hashed in memory."""
    file_bytes: int = 256 << 20
    """Put and got."""
    puts: int = 100
    """Small blobs, one after the other, per run."""
    grouped_puts: int = 2000
    """Small blobs by `put_many`, per run."""
    commits: int = 200

    @classmethod
    def for_kernel(cls, kernel: Kernel) -> BenchPlan:
        """What fits into the time: the Python kernel is about a thousand times slower."""
        return cls() if kernel.name == "native" else cls(2 << 20, 1 << 20, 50, 300, 100)


class Measure(NamedTuple):
    """One figure."""

    name: str
    """Stable name, for programs."""
    text: str
    value: float
    """The median, in `unit`."""
    unit: str
    runs: tuple[float, ...]


class BenchStore(Protocol):
    """What is measured: a store that keeps everything in one folder."""

    async def put(self, source: BlobSource) -> BlobWriteResult:
        """See `BlobStore.put`."""
        ...

    async def get(self, key: BlobKey) -> BlobReader:
        """See `BlobStore.get`."""
        ...

    def put_many(self, sources: list[bytes]) -> AsyncIterator[BlobWriteResult]:
        """See `CasBlobStore.put_many`."""
        ...

    async def metadata(self) -> KeyValueStore:
        """Where the metadata lies."""
        ...

    async def aclose(self) -> None:
        """Give back threads and handles."""
        ...


async def measure_all(
    kernel: Kernel, folder: Path, open_store: Callable[[Path], BenchStore], plan: BenchPlan
) -> AsyncIterator[Measure]:
    """All figures, one by one as they are known. Everything happens in `folder`, which is the caller's to remove."""
    with WorkerPool(1, "bench") as pool:
        async for measure in _in_memory(kernel, os.urandom(plan.memory_bytes), pool):
            yield measure
        source = folder / "source"
        await in_thread(pool, _fill, source, plan.file_bytes)
        gigabytes = plan.file_bytes / 1e9
        copied = partial(in_thread, pool, _copy, source, folder / "copy")
        yield await _figure("write", "write and fsync one file", "GB/s", gigabytes, copied)
        async for measure in _large(folder, source, open_store, gigabytes, pool):
            yield measure
        os.unlink(source)
    async for measure in _small(folder, open_store, plan):
        yield measure


async def _in_memory(kernel: Kernel, data: bytes, pool: WorkerPool) -> AsyncIterator[Measure]:
    gigabytes = len(data) / 1e9
    cut = partial(in_thread, pool, _cut, kernel, data)
    yield await _figure("cut_and_hash", "cut and hash, in memory", "GB/s", gigabytes, cut)
    for algo in HashAlgo:
        hashed = partial(in_thread, pool, kernel.digest, data, algo)
        yield await _figure(f"hash_{algo.value}", f"{algo.value} alone, in memory", "GB/s", gigabytes, hashed)


async def _large(
    folder: Path, source: Path, open_store: Callable[[Path], BenchStore], gigabytes: float, pool: WorkerPool
) -> AsyncIterator[Measure]:
    store_folder = folder / "large"
    remove = partial(shutil.rmtree, store_folder, ignore_errors=True)
    result: BlobWriteResult | None = None
    store = open_store(store_folder)

    async def afresh() -> None:
        nonlocal store
        await store.aclose()
        await in_thread(pool, remove)
        store = open_store(store_folder)

    async def put() -> None:
        nonlocal result
        result = await store.put(source)

    async def get() -> None:
        assert result is not None
        with open(folder / "got", "wb") as out:  # noqa: ASYNC230 - opening; the writes are on other threads
            async with await store.get(result.key) as reader:
                await reader.write_to(out.fileno())

    try:
        yield await _figure("put", "put a file, durable", "GB/s", gigabytes, put, before=afresh)
        yield await _figure("put_again", "put the same file again", "GB/s", gigabytes, put)
        yield await _figure("get", "get it to a file, verified", "GB/s", gigabytes, get)
    finally:
        await store.aclose()
        await in_thread(pool, remove)


async def _small(folder: Path, open_store: Callable[[Path], BenchStore], plan: BenchPlan) -> AsyncIterator[Measure]:
    store = open_store(folder / "small")

    async def puts() -> None:
        for _ in range(plan.puts):
            await store.put(os.urandom(_SMALL_BYTES))

    async def many() -> None:
        async for _ in store.put_many([os.urandom(_SMALL_BYTES) for _ in range(plan.grouped_puts)]):
            pass

    async def commits() -> None:
        kv = await store.metadata()
        for number in range(plan.commits):
            await kv.put("bench", b"key", number.to_bytes(8, "big"))

    try:
        yield await _figure("small_puts", "put 4 KiB blobs one after the other, durable", "/s", plan.puts, puts)
        yield await _figure("put_many", "put 4 KiB blobs with put_many, durable", "/s", plan.grouped_puts, many)
        yield await _figure("commits", "metadata commits, durable", "/s", plan.commits, commits)
    finally:
        await store.aclose()


async def _figure(
    name: str,
    text: str,
    unit: str,
    amount: float,
    work: Callable[[], Awaitable[object]],
    before: Callable[[], Awaitable[None]] | None = None,
) -> Measure:
    """Run `work`, which does `amount`, a few times; `before` each time, unmeasured."""
    runs: list[float] = []
    begun = time.perf_counter()
    while len(runs) < _RUNS and (not runs or time.perf_counter() - begun < _SECONDS_PER_FIGURE):
        if before is not None:
            await before()
        start = time.perf_counter()
        await work()
        runs.append(amount / (time.perf_counter() - start))
    return Measure(name, text, median(runs), unit, tuple(runs))


def _cut(kernel: Kernel, data: bytes) -> None:
    kernel.ingest(DEFAULT_SPEC).feed(data, True)


def _fill(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.writelines(os.urandom(min(_FILL_BYTES, size - start)) for start in range(0, size, _FILL_BYTES))


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as read, open(target, "wb") as write:
        shutil.copyfileobj(read, write, _FILL_BYTES)
        write.flush()
        os.fsync(write.fileno())
    os.unlink(target)
