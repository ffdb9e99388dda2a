"""`TracedBlockStore`: block reads and writes as spans of the trace that is being recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from graviton.core.keys import BlockKey
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockStore, BlockWritePlan, CanonicalBlock
from graviton.ports.tracing import Tracer

__all__ = ["TracedBlockStore"]


class TracedBlockStore(BlockStore):
    """`inner`, which is closed with this; only put there where there is a tracer."""

    def __init__(self, inner: BlockStore, tracer: Tracer) -> None:
        self.capabilities = inner.capabilities
        self._inner, self._tracer = inner, tracer

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        with self._tracer.span("blocks.put", blocks=len(blocks), bytes=sum(block.key.size for block in blocks)):
            return await self._inner.put_blocks(blocks, plan)

    async def get(self, key: BlockKey) -> bytes:
        with self._tracer.span("blocks.get", block=key.text, bytes=key.size):
            return await self._inner.get(key)

    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        with self._tracer.span("blocks.exists", blocks=len(keys)):
            return await self._inner.exists_many(keys)

    def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        return self._inner.list(prefix)

    async def aclose(self) -> None:
        await self._inner.aclose()
