"""`InMemoryBlockStore`: the reference for `BlockStore`. Its reclaimer is in reclaimer.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError, NotFound, Retry, Unavailable
from graviton.ports.blocks import (
    DEFAULT_WRITE_PLAN,
    BlockBatchResult,
    BlockStatus,
    BlockStore,
    BlockWritePlan,
    CanonicalBlock,
    StoredBlock,
    WriteMode,
    check_batch,
)
from graviton.ports.capabilities import Capabilities
from graviton.ports.reclaimer import TrashEntry

__all__ = ["InMemoryBlockStore", "verified"]


def verified(key: BlockKey, data: bytes) -> bytes:
    """`data` if it is what `key` says. Raises IntegrityError."""
    if len(data) != key.size or key.algo.digest(data) != key.digest:
        raise IntegrityError(
            f"what is stored as block {key.text} is something else ({len(data)} bytes)",
            operation="blocks.get",
            subject=key.text,
        )
    return data


class InMemoryBlockStore(BlockStore):
    """Blocks of this process, gone with the object. Every method runs to its end without giving up control, so each
    call is atomic for the tasks of one event loop; not for use by several threads at once."""

    capabilities = Capabilities(conditional_put=True)

    def __init__(self) -> None:
        self.blocks: dict[BlockKey, bytes] = {}
        """What lies under each key; tests spoil it on purpose."""
        self.trash: dict[TrashEntry, bytes] = {}
        """What was moved away, for the reclaimer."""
        self._closed = False

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        self.check_open()
        check_batch(blocks, plan)
        seen: set[BlockKey] = set()
        stored: list[StoredBlock] = []
        for key, payload in blocks:
            there = key in seen or (plan.mode is WriteMode.IF_ABSENT and key in self.blocks)
            if not there:
                self.blocks[key] = bytes(payload)  # a copy, unless it is immutable anyway
            seen.add(key)
            stored.append(StoredBlock(key, BlockStatus.DUPLICATE if there else BlockStatus.FRESH))
        return BlockBatchResult.of(stored, plan)

    async def get(self, key: BlockKey) -> bytes:
        self.check_open()
        data = self.blocks.get(key)
        if data is None:
            raise NotFound(f"there is no block {key.text}", operation="blocks.get", subject=key.text)
        return verified(key, data)

    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        self.check_open()
        return [key in self.blocks for key in keys]

    async def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        self.check_open()
        for key in sorted(self.blocks):
            if f"{key.algo.value}/{key.hex}-{key.size}".startswith(prefix) and key in self.blocks:
                yield key

    async def aclose(self) -> None:
        self._closed = True

    def check_open(self) -> None:
        """Raise Unavailable once the store is closed."""
        if self._closed:
            raise Unavailable("this block store is closed", operation="blocks", retry=Retry.PERMANENT)
