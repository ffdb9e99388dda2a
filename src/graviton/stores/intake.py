"""The bytes of one blob on their way into blocks: segments -> cut and hash -> claim -> write what is not there.

The steps run one after the other for one segment and side by side for different segments: while one is being read,
another is cut and hashed, and a third is written. What becomes of the blocks is for whoever reads: a put makes them a
blob (`put.py`), an upload remembers them and goes on with the next request (`services/uploads`). The order of claim,
write and confirm makes both safe: docs/block-life.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import Kernel
from graviton.core.chunking.ingest import Ingest
from graviton.core.clock import Clock
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.limits import MAX_PAGE_ENTRIES
from graviton.core.manifests import ManifestPage
from graviton.ports.block_index import BlockIndex, Claim
from graviton.ports.blocks import BlockStore, BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.manifests import BlobManifestRepo
from graviton.stores.segments import MAX_BUFFERS, Segment, Segments

if TYPE_CHECKING:
    from graviton.stores.limits.limits import StoreLimits

__all__ = ["Counts", "Intake", "PageBuilder", "Parts", "session_tag"]

INLINE_BYTES = 128 * 1024
"""Below this cutting and hashing takes less than a thread hop (about 50 us against 35 to 125 us) and runs inline."""


class Parts(NamedTuple):
    """What a put works with."""

    kernel: Kernel
    blocks: BlockStore
    block_index: BlockIndex
    manifests: BlobManifestRepo
    pool: WorkerPool
    budget: ByteBudget
    clock: Clock
    limits: StoreLimits | None = None


class Counts(NamedTuple):
    """What came of the blocks so far."""

    blocks: int = 0
    fresh_blocks: int = 0
    fresh_bytes: int = 0
    repaired_blocks: int = 0


def session_tag(session: int) -> str:
    """A session as part of temporary names."""
    return f"{session:016x}"


Step = Callable[[], Awaitable[None]]
"""Called after each segment, when its blocks are claimed and in the pages; some may be on their way to the disk."""


class Intake:
    """One blob on its way in. Whoever fails calls `stop`, and ends the session or leaves it to be ended."""

    def __init__(
        self,
        parts: Parts,
        ingest: Ingest,
        algo: HashAlgo,
        domain: str,
        *,
        session: int | None = None,
        pages: PageBuilder | None = None,
        check_fresh: Callable[[], None] | None = None,
    ) -> None:
        """`session` is an open one to go on under, whose claims were all confirmed, at the end of `pages`; None begins
        one with the first block. `ingest` may have seen bytes before, whose undecided rest comes again first. Before
        blocks are written that are new, and mend no damaged ones, `check_fresh` is asked, and may raise."""
        self.session = session
        self.pages = PageBuilder() if pages is None else pages
        self._parts, self._ingest, self._check_fresh = parts, ingest, check_fresh
        self._algo, self._domain = algo, domain
        self._durable: list[BlockKey] = []
        self._writers: set[asyncio.Task[None]] = set()
        self._blocks = self._fresh_blocks = self._fresh_bytes = self._repaired_blocks = 0

    @property
    def counts(self) -> Counts:
        """Of the blocks read here; complete when nothing is being written."""
        return Counts(self._blocks, self._fresh_blocks, self._fresh_bytes, self._repaired_blocks)

    async def read(self, segments: Segments, step: Step, ends_blob: Callable[[], bool]) -> memoryview:
        """Cut, hash, claim and write all of a source; every block is durable then. `ends_blob` is asked at the end of
        the source whether the blob ends there too; else the rest comes back whose cut is not decided, in memory of
        `segments`."""
        tail = memoryview(b"")
        final = False
        while not final:
            segment = await segments.next(len(tail))
            final = segment.final
            keys, used = await self._cut(segment, final and ends_blob())
            tail = segment.view[used:]
            await self._store(segment, keys)
            await step()
        await self.settle()
        return tail

    async def settle(self, allowed: int = 0) -> None:
        """Wait until at most `allowed` segments are being written. Raises what a writer raised."""
        while True:
            done = {writer for writer in self._writers if writer.done()}
            self._writers -= done
            if errors := [error for writer in done if (error := writer.exception()) is not None]:
                raise errors[0]  # of several that failed together all were asked, so none is reported as lost
            if len(self._writers) <= allowed:
                return
            await asyncio.wait(self._writers, return_when=asyncio.FIRST_COMPLETED)

    def take_durable(self) -> list[BlockKey]:
        """The blocks that were written since it was asked last, to be confirmed."""
        durable, self._durable = self._durable, []
        return durable

    async def stop(self) -> None:
        """Stop all writers, which use the memory of the segments. Safe at any time."""
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def _cut(self, segment: Segment, ends_blob: bool) -> tuple[list[BlockKey], int]:
        if len(segment.view) <= INLINE_BYTES:
            lengths, digests = self._ingest.feed(segment.view, ends_blob)
        else:
            lengths, digests = await in_thread(self._parts.pool, self._ingest.feed, segment.view, ends_blob)
        algo = self._algo
        keys = [BlockKey(Digest(algo, raw), length) for raw, length in zip(digests, lengths, strict=True)]
        return keys, sum(lengths)

    async def _store(self, segment: Segment, keys: Sequence[BlockKey]) -> None:
        """Claim the blocks of a segment, and have those that must be written be written."""
        self.pages.extend(keys)
        self._blocks += len(keys)
        if self.session is None and (keys or segment.final):
            claims = await finish_anyway(self._open(keys))
        elif keys:
            assert self.session is not None
            claims = await self._parts.block_index.claim(self.session, keys)
        else:
            claims = []
        if self._check_fresh is not None and any(claim.must_write and not claim.repairs for claim in claims):
            self._check_fresh()
        wanted: list[CanonicalBlock] = []
        offset = 0
        for claim in claims:
            if claim.must_write:
                wanted.append(CanonicalBlock(claim.key, segment.view[offset : offset + claim.key.size]))
                self._repaired_blocks += claim.repairs
            offset += claim.key.size
        if not wanted:
            segment.release()
        elif segment.final and not self._writers:
            await self._write(segment, wanted)
        else:
            await self.settle(MAX_BUFFERS - 1)
            self._writers.add(asyncio.ensure_future(self._write(segment, wanted)))

    async def _open(self, keys: Sequence[BlockKey]) -> list[Claim]:
        """Start the session. Never abandoned half way: a session whose number nobody knows could not be ended."""
        [(self.session, claims)] = await self._parts.block_index.open([keys], self._domain)
        return claims

    async def _write(self, segment: Segment, blocks: Sequence[CanonicalBlock]) -> None:
        assert self.session is not None
        plan = BlockWritePlan(WriteMode.ALWAYS, session_tag(self.session))
        await self._parts.blocks.put_blocks(blocks, plan)
        segment.release()
        self._durable += [block.key for block in blocks]
        self._fresh_blocks += len(blocks)
        self._fresh_bytes += sum(block.key.size for block in blocks)


class PageBuilder:
    """Gathers keys into pages."""

    def __init__(self, last: ManifestPage | None = None) -> None:
        """`last` is the last page of a manifest that is to go on; it may be short."""
        self.full: list[ManifestPage] = []
        self._keys: list[BlockKey] = []
        self._number = 0
        self._offset = 0
        self.end = 0
        """Bytes of all blocks, those of pages that were taken away included."""
        if last is not None:
            self._number, self._offset = last.number, last.offset
            self.end = last.offset
            self.extend(last.keys)

    def extend(self, keys: Sequence[BlockKey]) -> None:
        """Append the blocks `keys`."""
        self._keys += keys
        self.end += sum(key.size for key in keys)
        while len(self._keys) >= MAX_PAGE_ENTRIES:
            self._close_page(self._keys[:MAX_PAGE_ENTRIES])
            del self._keys[:MAX_PAGE_ENTRIES]

    def take_full(self) -> list[ManifestPage]:
        """The full pages that were not taken yet."""
        full, self.full = self.full, []
        return full

    def rest(self) -> list[ManifestPage]:
        """The pages not taken yet; the last may be short, and is the end of the manifest."""
        if self._keys:
            self._close_page(self._keys)
            self._keys = []
        return self.full

    def short(self) -> ManifestPage | None:
        """The page that is not full yet, as it is now."""
        return ManifestPage(self._number, self._offset, self._keys) if self._keys else None

    def _close_page(self, keys: Sequence[BlockKey]) -> None:
        page = ManifestPage(self._number, self._offset, keys)
        self.full.append(page)
        self._number += 1
        self._offset = page.end
