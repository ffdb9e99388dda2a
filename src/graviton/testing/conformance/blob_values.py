"""What the laws of `BlobStore` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.ports.blobs import BlobReader, BlobStore
from graviton.testing.conformance.contract import Contract, optional_hook

__all__ = ["BlobStoreHooks", "key_of", "noise", "read"]


def key_of(data: bytes, algo: HashAlgo = HashAlgo.BLAKE3) -> BlobKey:
    """The key that `data` must get."""
    return BlobKey(algo.digest(data), len(data))


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes without any repetition that a chunker or a deduplicating store could use; the same every time."""
    counter = range(seed << 40, (seed << 40) + size // 32 + 1)
    return b"".join(HashAlgo.SHA256.digest(n.to_bytes(16, "big")).raw for n in counter)[:size]


async def read(store: BlobStore, key: BlobKey, span: Span | None = None, domain: str = "") -> bytes:
    """All that `get` yields."""
    async with await store.get(key, span, domain) as reader:
        return await reader.read()


class BlobStoreHooks(Contract[BlobStore]):
    """What a subclass may add to its factory."""

    large_bytes: ClassVar[int] = 3_000_000
    """A blob of several blocks for the store under test: choose a small chunker, or raise this."""

    @optional_hook
    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        """Back door: change one stored byte that belongs to the blob."""
        raise NotImplementedError

    @optional_hook
    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        """Back door: remove stored bytes that belong to the blob, which stays visible."""
        raise NotImplementedError

    @optional_hook
    async def leftovers(self, store: BlobStore) -> Sequence[str]:
        """What unfinished puts have left: open sessions, temporary files, memory that is still drawn."""
        raise NotImplementedError

    async def is_readable(self, reader: BlobReader, data: bytes) -> None:
        """Check a reader of all of `data`, and its pieces, and close it."""
        pieces = [bytes(piece) async for piece in reader]
        assert b"".join(pieces) == data
        assert all(0 < len(piece) <= 16 * 1024 * 1024 for piece in pieces)
        await reader.aclose()
