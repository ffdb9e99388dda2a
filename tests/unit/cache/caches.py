"""Caches of tests: over blocks in memory, in a folder, with everything in sight."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from graviton.assembly.caches import open_index
from graviton.backends.filesystem._disk import Disk
from graviton.backends.filesystem.cache_folder import FsCacheFolder
from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.constraints.budget import ByteBudget
from graviton.core.keys import BlockKey
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.stores.layers.cache.blocks import CachedBlockStore
from graviton.stores.layers.cache.cache import BlockCache
from graviton.stores.layers.cache.keeper import Keeper
from graviton.testing.conformance.block_values import block
from graviton.testing.fake_clock import FakeClock

LIMIT = 1 << 20

PATIENCE = 60.0
"""With the cache's disk, in seconds: a machine that is busy with something else is no reason for a miss in a test."""


class CountingBlocks(InMemoryBlockStore):
    """Blocks that are far away: counts what is fetched."""

    def __init__(self, blocks: dict[BlockKey, bytes] | None = None) -> None:
        super().__init__()
        self.blocks = {} if blocks is None else blocks
        self.gets: Counter[BlockKey] = Counter()

    async def get(self, key: BlockKey) -> bytes:
        self.gets[key] += 1
        return await super().get(key)

    @property
    def fetched(self) -> int:
        """How many were."""
        return sum(self.gets.values())


class Cached(CachedBlockStore):
    """A cached store that shows what it is made of."""

    def __init__(
        self,
        root: Path,
        inner: BlockStore,
        *,
        limit: int = LIMIT,
        disk: Disk | None = None,
        clock: FakeClock | None = None,
        budget: ByteBudget | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.registry = InMemoryMetrics()
        self.inner = inner
        self.folder = FsCacheFolder(root, disk)
        self.cache = BlockCache(
            self.folder,
            lambda anew: open_index(self.folder.index_path, anew),
            limit,
            budget=budget,
            metrics=self.registry,
            clock=clock,
            patience_seconds=patience,
        )
        super().__init__(inner, self.cache, metrics=self.registry)

    @property
    def keeper(self) -> Keeper:
        """Look at it once everything is settled."""
        return self.cache._keeper

    def count(self, name: str, **labels: str) -> float:
        """Of one counter, `graviton_cache_<name>_total`, all series that have these labels."""
        return sum(
            value
            for series, value in self.registry.snapshot().counters.items()
            if series.name == f"graviton_cache_{name}_total" and set(labels.items()) <= set(series.labels)
        )

    async def read(self, *blocks: CanonicalBlock) -> None:
        """Read each, check it, and wait until what is to be cached is."""
        for one in blocks:
            assert await self.get(one.key) == one.payload
            await self.cache.settled()


def blocks_of_8k(count: int, stem: str = "") -> list[CanonicalBlock]:
    """Blocks that take 8 KiB of a cache each."""
    return [block(f"{stem}{number}".encode().ljust(8000, b".")) for number in range(count)]


def far(*blocks: CanonicalBlock) -> CountingBlocks:
    """A store that has them."""
    return CountingBlocks({one.key: bytes(one.payload) for one in blocks})


def files(root: Path) -> dict[str, int]:
    """Names and sizes of everything among the blocks of a cache."""
    return {path.name: path.stat().st_size for path in (root / "blocks").rglob("*") if path.is_file()}
