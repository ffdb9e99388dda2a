"""What tests of puts share: bytes and their key, sources and block stores with a will of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import StorageFull
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult
from tests.support import YieldingBlocks, some_bytes

__all__ = ["DATA", "KEY", "Changing", "FailingBlocks", "advertise", "pieces"]

DATA = some_bytes(60_000)
KEY = BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))


def advertise(values: dict[str, object]) -> BlobWritePlan:
    """A plan that advertises `values`."""
    return BlobWritePlan(BinaryAttributes.EMPTY.advertise(values, at_ns=1))  # type: ignore[arg-type]


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    """`data` as it might come from a network."""
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


class Changing:
    """A file that is changed while it is read: each read sees what the next step left."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read(self, size: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, bytes) and len(piece) > size:
            self.pieces.insert(0, piece[size:])
            piece = piece[:size]
        return piece


class FailingBlocks(YieldingBlocks):
    """The `fails_at`-th batch finds no room."""

    fails_at = 0
    calls = 0

    async def put_blocks(self, blocks, plan=DEFAULT_WRITE_PLAN) -> BlockBatchResult:  # type: ignore[no-untyped-def]
        self.calls += 1
        if self.calls == self.fails_at:
            raise StorageFull("no room")
        return await super().put_blocks(blocks, plan)
