"""What several test folders share: small stores in memory, and bytes that compress no test into triviality."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.memory.reclaimer import InMemoryBlockReclaimer
from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.hashing import HashAlgo
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockWritePlan, CanonicalBlock
from graviton.ports.kv import Durability, ReadTransaction, Transaction
from graviton.stores.cas import CasBlobStore
from graviton.stores.results import CasDefaults

_T = TypeVar("_T")

SMALL_SPEC = ChunkerSpec.parse("w16-v1:256:1024:4096")
"""Blocks of about 1 KiB: many blocks from few bytes, which the Python kernel can cut too."""


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Random bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


class YieldingBlocks(InMemoryBlockStore):
    """Gives the event loop a turn before and after each call, so that tests can step in between."""

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        await asyncio.sleep(0)
        result = await super().put_blocks(blocks, plan)
        await asyncio.sleep(0)
        return result


class YieldingKv(InMemoryKeyValueStore):
    """Likewise for transactions."""

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        await asyncio.sleep(0)
        result = await super().transact(fn, durability)
        await asyncio.sleep(0)
        return result

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        await asyncio.sleep(0)
        return await super().read(fn)


class World:
    """A blob store in memory with handles on everything below it."""

    def __init__(
        self,
        kernel: Kernel,
        *,
        kv: InMemoryKeyValueStore | None = None,
        blocks: InMemoryBlockStore | None = None,
        budget: ByteBudget | None = None,
        spec: ChunkerSpec = SMALL_SPEC,
        algo: HashAlgo = HashAlgo.BLAKE3,
        **more: Any,
    ) -> None:
        self.kv = kv if kv is not None else YieldingKv()
        self.blocks = blocks if blocks is not None else YieldingBlocks()
        self.index = KvBlockIndex(self.kv, more.get("clock"))
        self.manifests = KvBlobManifestRepo(self.kv, more.get("clock"))
        self.reclaimer = InMemoryBlockReclaimer(self.blocks)
        self.budget = budget or ByteBudget()
        self.store = CasBlobStore(
            kernel,
            self.blocks,
            self.index,
            self.manifests,
            self.reclaimer,
            defaults=CasDefaults(algo, spec),
            budget=self.budget,
            **more,
        )

    async def open_sessions(self) -> int:
        """Owners that are still open."""
        from graviton.metadata.rows import OWNERS, OwnerRow
        from graviton.ports.block_index import OwnerState

        rows = [OwnerRow.decode(value) async for _, value in self.kv.scan(OWNERS)]
        return sum(row.state is OwnerState.OPEN for row in rows)
