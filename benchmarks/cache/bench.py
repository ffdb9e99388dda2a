"""The block cache: gigabytes of hits per second, verified; hit ratios beside other policies; memory per entry."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cache.policies import OURS, POLICIES, hit_ratio
from benchmarks.cache.traces import LIMIT, OTHERS, TRACES
from benchmarks.harness.figures import Verdict
from benchmarks.harness.section import Bench, Section, Table
from graviton.assembly.caches import open_index
from graviton.backends.filesystem import FsBlockStore, FsConfig
from graviton.backends.filesystem.cache_folder import FsCacheFolder
from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.stores.layers.cache.blocks import CachedBlockStore
from graviton.stores.layers.cache.cache import BlockCache
from graviton.stores.layers.cache.policy import WTinyLfu

__all__ = ["measure"]

_BLOCK_BYTES = 1 << 20
_AT_ONCE = 8
"""As many as one reader of a blob asks for (stores/streaming.py)."""


def measure(bench: Bench) -> Section:
    """Hits, then ratios, then memory."""
    section = Section("cache", "the block cache")
    count = bench.pick(256, 32)
    bench.space.need(3 * count * _BLOCK_BYTES)
    rates: dict[str, list[float]] = {"8 at once": [], "one by one": [], "plain files, 8 at once": []}
    for repetition in range(bench.pick(9, 2)):
        found = asyncio.run(_hits(bench.space.fresh(f"cache-{repetition}"), count, bench.pick(4, 1)))
        for name, rate in found.items():
            rates[name].append(rate)
        bench.say(f"repetition {repetition + 1}")
    section.verdicts.append(Verdict.of("hits of 1 MiB, 8 at once", rates["8 at once"], "GB/s", 2.0, at_least=True))
    section.verdicts.append(Verdict.of("hits of 1 MiB, one by one", rates["one by one"], "GB/s", None))
    section.verdicts.append(
        Verdict.of("the same from FsBlockStore, 8 at once", rates["plain files, 8 at once"], "GB/s", None)
    )
    ratios = _ratios(section, bench)
    memory = _bytes_per_entry(bench.pick(200_000, 20_000))
    section.verdicts.append(Verdict("memory per entry", memory, "B", None))
    section.raw = {"GB/s": rates, "hit ratios": ratios, "bytes per entry": memory}
    section.notes = [
        "hits: files in the page cache, opened, read and hashed anew for every get; median of the repetitions",
        f"ratios: simulated, {LIMIT >> 30} GiB, the same requests for each; the traces are in traces.py",
    ]
    return section


async def _hits(folder: Path, count: int, rounds: int) -> dict[str, float]:
    below = InMemoryBlockStore()
    blocks = [_block(os.urandom(_BLOCK_BYTES)) for _ in range(count)]
    await below.put_blocks(blocks)
    cache_folder = FsCacheFolder(folder / "cache")
    cache = BlockCache(cache_folder, lambda anew: open_index(cache_folder.index_path, anew), 4 * count * _BLOCK_BYTES)
    store = CachedBlockStore(below, cache)
    for one in blocks:
        await store.get(one.key)
        await cache.settled()
    keys = [one.key for one in blocks]
    files = FsBlockStore(FsConfig(folder / "plain"))
    await files.put_blocks(blocks)
    blocks.clear()
    below.blocks.clear()  # so that nothing but hits can answer
    found = {
        "8 at once": await _rate(store, keys, _AT_ONCE, rounds),
        "one by one": await _rate(store, keys, 1, rounds),
        "plain files, 8 at once": await _rate(files, keys, _AT_ONCE, rounds),
    }
    await store.aclose()
    await files.aclose()
    return found


async def _rate(store: BlockStore, keys: Sequence[BlockKey], at_once: int, rounds: int) -> float:
    """GB/s of getting all `keys` some times over, dropping the bytes at once."""

    async def lane(number: int) -> None:
        for key in keys[number::at_once]:
            await store.get(key)

    await _all([lane(number) for number in range(at_once)])  # warm
    begin = time.perf_counter()
    for _ in range(rounds):
        await _all([lane(number) for number in range(at_once)])
    return rounds * len(keys) * _BLOCK_BYTES / (time.perf_counter() - begin) / 1e9


async def _all(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*calls)


def _block(data: bytes) -> CanonicalBlock:
    return CanonicalBlock(BlockKey(HashAlgo.BLAKE3.digest(data), len(data)), data)


def _ratios(section: Section, bench: Bench) -> dict[str, dict[str, tuple[float, float]]]:
    found: dict[str, dict[str, tuple[float, float]]] = {}
    table = Table(["trace", *POLICIES, "ours / best"])
    for name, trace in (TRACES | OTHERS).items():
        requests = list(trace())
        found[name] = {policy: hit_ratio(make(LIMIT), requests) for policy, make in POLICIES.items()}
        best = max(ratio for ratio, _ in found[name].values())
        ours = found[name][OURS][0] / best
        table.add(name, *(f"{ratio:.3f} ({served:.3f})" for ratio, served in found[name].values()), f"{ours:.3f}")
        target = 0.95 if name in TRACES else None
        section.verdicts.append(Verdict(f"{name}: hit ratio / best policy's", ours, "x", target, at_least=True))
        bench.say(f"trace {name}")
    section.tables.append(table)
    section.notes.append("ratios are of requests, in parentheses of bytes")
    return found


def _bytes_per_entry(count: int) -> float:
    """What the policy holds for each entry of a full cache, its part of the frequencies included."""
    tracemalloc.start()
    policy = WTinyLfu(count)
    for number in range(2 * count):
        if policy.used == count:
            policy.evict()
        policy.add(number.to_bytes(41, "big"), 1)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / count
