"""`CachedBlockStore`: a block store whose blocks are read from a disk nearby, once they were read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from graviton.concurrency.lifetime import Lifetime
from graviton.concurrency.streams import closing
from graviton.core.keys import BlockKey
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockStore, BlockWritePlan, CanonicalBlock
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics
from graviton.stores.layers.cache.cache import BlockCache
from graviton.stores.layers.cache.flights import Flights

__all__ = ["CachedBlockStore"]


class _Look(NamedTuple):
    data: bytes
    outcome: str


class CachedBlockStore(BlockStore):
    """`inner`, with `get` through a cache; everything else goes to `inner` as it comes (docs/caching.md says why).

    It keeps the laws of the port but one: `get` of a block that was removed or damaged below gives the bytes while they
    are cached. Who wants to know whether the original is there and sound asks `inner`. Both are closed with this.
    """

    def __init__(self, inner: BlockStore, cache: BlockCache, *, metrics: MetricsRegistry | None = None) -> None:
        self.capabilities = inner.capabilities._replace(runs_in_place=False)  # a look at the cache does not
        self._inner, self._cache = inner, cache
        self._metrics = metrics or NoMetrics()
        self._flights: Flights[_Look] = Flights()
        self._lifetime = Lifetime("block store", "blocks")

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        self._lifetime.check()
        return await self._inner.put_blocks(blocks, plan)

    async def get(self, key: BlockKey) -> bytes:
        self._lifetime.check()
        look, is_own = await self._flights.join(key, lambda: self._look(key))
        outcome = look.outcome if is_own else "shared"
        self._metrics.counter(MetricKeys.CACHE_READS, outcome=outcome)
        self._metrics.counter(MetricKeys.CACHE_READ_BYTES, key.size, outcome=outcome)
        return look.data

    async def _look(self, key: BlockKey) -> _Look:
        data = await self._cache.read(key)
        if data is not None:
            return _Look(data, "hit")
        data = await self._inner.get(key)
        self._cache.offer(key, data)
        return _Look(data, "miss")

    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        self._lifetime.check()
        return await self._inner.exists_many(keys)

    async def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        self._lifetime.check()
        async with closing(self._inner.list(prefix)) as keys:
            async for key in keys:
                yield key

    async def aclose(self) -> None:
        if self._lifetime.is_closed:
            return
        self._lifetime.is_closed = True
        try:
            await self._inner.aclose()
        finally:
            await self._cache.aclose()
