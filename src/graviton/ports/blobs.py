"""`BlobStore`: the way in and out for whole blobs.

Laws:
- `put` reads the source to its end, stores it, and returns when the blob is as durable as the store's capabilities
  say; only then is it visible. A put that failed or was cancelled leaves no blob, session, temporary file or thread.
  Putting the same bytes again gives the same key and stores nothing twice. Empty blobs are legal.
- The key is that of the bytes as they were read, whatever others did to a file or buffer meanwhile. A claim of the plan
  that the bytes do not meet (advertised size or digest) raises DigestMismatch and leaves nothing.
- `get` raises NotFound, or RangeNotSatisfiable when `span` does not lie within the blob (an empty one does if it ends
  at the blob's size or before, and yields nothing), *before* it returns. The
  reader yields exactly the bytes asked for, in order, each verified before it leaves, or raises IntegrityError naming
  blob, block and byte range; wrong bytes never leave. Leaving the reader cancels its fetches and returns its memory.
- A blob deleted while it is read is either read to its end or fails with NotFound.
- `stat` is None exactly when there is no visible blob. `put` adds the plan's holder, `delete` takes one away and says
  whether it held the blob; the blob disappears with its last holder. Nothing is shared between domains.
- What the plan advertises and what the store confirms, size and number of blocks at least, is returned by `put`,
  `stat` and the reader; putting the same bytes again merges attributes. A `locator_hint` wins over the store's own.
- A source that is not bytes raises InvalidInput; so does a path that is no regular file. A file object is left open.
- `list` yields stats in the order of key texts, as `BlobManifestRepo.list`; a negative limit raises InvalidInput. Where
  the store can get past blobs whose metadata is damaged, it raises IntegrityError, which says how many these are, after
  everything else was yielded.
- Memory drawn by all streams of a process stays within the byte budget.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias, runtime_checkable

from graviton.core.attributes import BinaryAttributes
from graviton.core.buffers import Buffer
from graviton.core.keys import BlobKey
from graviton.core.locators import Locator
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import InvalidInput
from graviton.ports.capabilities import Capabilities

__all__ = [
    "BlobReader",
    "BlobSource",
    "BlobStat",
    "BlobStore",
    "BlobWriteResult",
    "IngestStats",
    "RepeatableSource",
    "SmallBlob",
    "check_limit",
]

BlobSource: TypeAlias = Buffer | os.PathLike[str] | BinaryIO | Iterable[Buffer] | AsyncIterable[Buffer]
"""Bytes (or any other contiguous memory), the path of a regular file, a binary file object (read from its position), or
pieces of bytes."""


@runtime_checkable
class RepeatableSource(Protocol):
    """Pieces of bytes that can be had again, from any of them on: whoever sends them over a network can go on after a
    break. Everybody else iterates."""

    size: int
    """Bytes in all, as far as one can tell."""

    def __aiter__(self) -> AsyncIterator[Buffer]:
        """All of them."""
        ...

    def from_byte(self, offset: int) -> AsyncIterator[Buffer]:
        """Those from `offset` on. One iteration at a time."""
        ...


class SmallBlob(NamedTuple):
    """One of many small blobs to be put together, with attributes of its own beside those of the plan."""

    data: bytes
    attributes: BinaryAttributes = BinaryAttributes.EMPTY
    """Advertised only."""


class IngestStats(NamedTuple):
    """What one put did."""

    size: int
    """Bytes of the blob."""
    blocks: int = 0
    """Blocks that this put cut the bytes into, repeats included."""
    fresh_blocks: int = 0
    """Blocks whose bytes were written."""
    fresh_bytes: int = 0
    repaired_blocks: int = 0
    """Fresh blocks that had been marked damaged."""
    seconds: float = 0.0
    """Wall time of the put."""

    @property
    def dedup_ratio(self) -> float:
        """Share of the blob's blocks that were there already, 0 to 1; 0 for an empty blob."""
        return (self.blocks - self.fresh_blocks) / self.blocks if self.blocks else 0.0


class BlobStat(NamedTuple):
    """A blob without its bytes."""

    key: BlobKey
    blocks: int
    chunker: str
    """Canonical spec text; empty where the store does not cut."""
    created_at_ns: int
    """UTC nanoseconds."""
    attributes: BinaryAttributes

    @property
    def size(self) -> int:
        """Bytes."""
        return self.key.size


class BlobWriteResult(NamedTuple):
    """A put that is durable."""

    key: BlobKey
    locator: Locator
    attributes: BinaryAttributes
    stats: IngestStats
    """What this put did. If the blob was there already, cut otherwise, its manifest has other blocks: see `blocks`."""
    chunker: str
    """Canonical spec text of how the visible blob is cut; empty where the store does not cut."""
    created: bool
    """False if the blob was visible already."""
    blocks: int
    """Blocks of the visible blob, cut by `chunker`, repeats included; as `BlobStat.blocks`."""

    @property
    def id(self) -> str:
        """The BlobId, the key's text."""
        return self.key.text


class BlobReader(ABC):
    """Verified bytes of a blob or of a span of it: an async iterator and an async context manager.

    `async with await store.get(key) as reader: async for piece in reader: …`. One task at a time.
    """

    key: BlobKey
    span: Span
    """The bytes this reader yields."""
    attributes: BinaryAttributes

    @property
    def size(self) -> int:
        """Bytes this reader yields in total."""
        return self.span.end - self.span.start

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[memoryview | bytes]: ...

    @abstractmethod
    async def __anext__(self) -> memoryview | bytes:
        """The next piece, at least one byte and at most one block; valid until the next call. It is `bytes` where that
        saves a copy for whoever needs them."""

    @abstractmethod
    async def aclose(self) -> None:
        """Cancel fetches and return memory. Idempotent."""

    async def read(self) -> bytes:
        """All that is left, in memory. Raises what iteration raises."""
        return b"".join([bytes(piece) async for piece in self])

    async def write_to(self, fd: int) -> int:
        """Write all that is left to the file descriptor `fd`, from its position on; bytes written. Pieces are written
        on another thread. A pipe that nobody reads can be left by cancelling. Nothing uses `fd` any more when this
        returns or raises. Raises what iteration raises, and OSError of the writes."""
        from graviton.concurrency.pipes import Sink

        total = 0
        with Sink(fd) as sink:
            async for piece in self:
                await sink.write(piece)
                total += len(piece)
        return total

    async def __aenter__(self) -> BlobReader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class BlobStore(ABC):
    """Stores blobs; see the module docstring for the laws."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        """Store a blob. Raises InvalidInput, DigestMismatch, StorageFull, PermissionDenied, Unavailable, Conflict,
        NotFound (a path that is not there), LimitExceeded."""

    @abstractmethod
    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        """A reader of the blob or of `span` of it. Raises NotFound, RangeNotSatisfiable."""

    @abstractmethod
    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        """The blob without its bytes, or None."""

    @abstractmethod
    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Take `holder` away; whether it held the blob."""

    @abstractmethod
    def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        """Visible blobs in key order."""

    async def aclose(self) -> None:
        """Give back threads and handles. Idempotent; using the store afterwards raises Unavailable."""


def check_limit(limit: int | None) -> None:
    """Raise InvalidInput for a number of blobs that cannot be; shared, so that all stores refuse the same."""
    if limit is not None and limit < 0:
        raise InvalidInput(f"a limit is 0 or more, not {limit}", operation="list")
