"""The way in: source -> segments -> cut and hash -> claim -> write what is not there -> confirm and commit.

One `Put` is one blob. Its steps run one after the other for one segment and side by side for different segments: while
one is being read, another is cut and hashed, and a third is written. docs/block-life.md says why the order of claim,
write, confirm and commit is what makes a put safe.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.budget import ByteBudget
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking import Kernel
from graviton.core.clock import Clock
from graviton.core.hashing import Digest
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_PAGE_ENTRIES
from graviton.core.manifests import ManifestPage
from graviton.errors import GravitonError
from graviton.ports.blobs import BlobWriteResult, IngestStats
from graviton.ports.block_index import BlockIndex, Claim
from graviton.ports.blocks import BlockStore, BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.manifests import BlobCommit, BlobManifestRepo, CommitResult
from graviton.stores.committing import commit_all
from graviton.stores.results import Wanted, check_claims, confirmed, result_of
from graviton.stores.segments import MAX_BUFFERS, Segment, Segments

if TYPE_CHECKING:
    from graviton.stores.limits.limits import StoreLimits

__all__ = ["Ingested", "Parts", "Put", "put_one", "session_tag"]

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


async def put_one(
    parts: Parts, segments: Segments, asked: Wanted, promise: Callable[[BlobKey], Awaitable[None]] | None = None
) -> BlobWriteResult:
    """Put one blob, whole or not at all. Closes `segments`. Before the commit `promise` is told the key, and may refuse
    it."""
    started = time.perf_counter()
    put: Put | None = None
    try:
        put = Put(parts, asked)
        done = await put.run(segments)
        check_claims(asked.plan.attributes, done.key)
        attributes = confirmed(asked.plan.attributes, done.key.size, done.blocks, parts.clock)
        if promise is not None:
            await promise(done.key)
        committed = await put.commit(done.key, attributes)
    except BaseException:
        await finish_anyway(_give_up(put, segments))
        raise
    await segments.aclose()
    seconds = time.perf_counter() - started
    stats = IngestStats(done.key.size, done.blocks, done.fresh_blocks, done.fresh_bytes, done.repaired_blocks, seconds)
    return result_of(committed, asked.plan, stats)


async def _give_up(put: Put | None, segments: Segments) -> None:
    """Nothing stays behind: first the writers, which use the memory of the segments."""
    try:
        if put is not None:
            await put.abort()
    finally:
        await segments.aclose()


class Ingested(NamedTuple):
    """All that is known once the last byte was read and every block is durable."""

    key: BlobKey
    blocks: int
    fresh_blocks: int
    fresh_bytes: int
    repaired_blocks: int


def session_tag(session: int) -> str:
    """A session as part of temporary names."""
    return f"{session:016x}"


class Put:
    """One blob on its way in. `run`, then `commit`; `abort` after any failure of either."""

    def __init__(self, parts: Parts, asked: Wanted) -> None:
        self._parts, self._asked = parts, asked
        self._algo, self._domain = asked.hash, asked.plan.domain
        self._ingest = parts.kernel.ingest(asked.chunker, asked.hash)
        self._session: int | None = None
        self._pages = _PageBuilder()
        self._durable: list[BlockKey] = []
        self._writers: set[asyncio.Task[None]] = set()
        self._blocks = self._fresh_blocks = self._fresh_bytes = self._repaired_blocks = 0

    async def run(self, segments: Segments) -> Ingested:
        """Read, cut, hash, claim and write everything."""
        tail_bytes = 0
        final = False
        while not final:
            segment = await segments.next(tail_bytes)
            final = segment.final
            keys, used = await self._cut(segment)
            tail_bytes = len(segment.view) - used
            await self._store(segment, keys)
            if len(self._pages.full) >= _FLUSH_PAGES:
                await self._flush()
        await self._settle(0)
        raw, size = self._ingest.finish()
        return Ingested(
            BlobKey(Digest(self._algo, raw), size),
            self._blocks,
            self._fresh_blocks,
            self._fresh_bytes,
            self._repaired_blocks,
        )

    async def commit(self, key: BlobKey, attributes: BinaryAttributes) -> CommitResult:
        """Make the blob visible. Raises Conflict if the session was ended meanwhile."""
        assert self._session is not None, "commit comes after run"
        asked = self._asked
        commit = BlobCommit(
            self._session, key, self._pages.rest(), self._durable, attributes, asked.chunker.text, asked.plan.holder
        )
        parts = self._parts
        [result] = await commit_all(parts.manifests, parts.block_index, [commit], self._domain)
        return result

    async def abort(self) -> None:
        """Stop all writers and end the session. Safe at any time; never raises what the backend says: a session that
        cannot be ended now expires."""
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        if self._session is not None:
            try:
                await self._parts.block_index.end(self._session)
            except GravitonError:
                pass  # whoever cannot write now has told so already, by the error that brought us here

    async def _cut(self, segment: Segment) -> tuple[list[BlockKey], int]:
        if len(segment.view) <= INLINE_BYTES:
            lengths, digests = self._ingest.feed(segment.view, segment.final)
        else:
            lengths, digests = await in_thread(self._parts.pool, self._ingest.feed, segment.view, segment.final)
        algo = self._algo
        keys = [BlockKey(Digest(algo, raw), length) for raw, length in zip(digests, lengths, strict=True)]
        return keys, sum(lengths)

    async def _store(self, segment: Segment, keys: Sequence[BlockKey]) -> None:
        """Claim the blocks of a segment, and have those that must be written be written."""
        self._pages.extend(keys)
        self._blocks += len(keys)
        if self._session is None and (keys or segment.final):
            claims = await finish_anyway(self._open(keys))
        elif keys:
            assert self._session is not None
            claims = await self._parts.block_index.claim(self._session, keys)
        else:
            claims = []
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
            await self._settle(MAX_BUFFERS - 1)
            self._writers.add(asyncio.ensure_future(self._write(segment, wanted)))

    async def _open(self, keys: Sequence[BlockKey]) -> list[Claim]:
        """Start the session. Never abandoned half way: a session whose number nobody knows could not be ended."""
        [(self._session, claims)] = await self._parts.block_index.open([keys], self._domain)
        return claims

    async def _write(self, segment: Segment, blocks: Sequence[CanonicalBlock]) -> None:
        assert self._session is not None
        plan = BlockWritePlan(WriteMode.ALWAYS, session_tag(self._session))
        await self._parts.blocks.put_blocks(blocks, plan)
        segment.release()
        self._durable += [block.key for block in blocks]
        self._fresh_blocks += len(blocks)
        self._fresh_bytes += sum(block.key.size for block in blocks)

    async def _settle(self, allowed: int) -> None:
        """Wait until at most `allowed` segments are being written. Raises what a writer raised."""
        while True:
            done = {writer for writer in self._writers if writer.done()}
            self._writers -= done
            if errors := [error for writer in done if (error := writer.exception()) is not None]:
                raise errors[0]  # of several that failed together all were asked, so none is reported as lost
            if len(self._writers) <= allowed:
                return
            await asyncio.wait(self._writers, return_when=asyncio.FIRST_COMPLETED)

    async def _flush(self) -> None:
        """Hand full pages and what is durable by now to the metadata, so that neither piles up."""
        assert self._session is not None
        pages, self._pages.full = self._pages.full, []
        durable, self._durable = self._durable, []
        await self._parts.manifests.add_pages(self._session, pages, durable)


_FLUSH_PAGES = 2
"""Full pages kept at most before they are written: 590 KB of keys as objects take about 2 MB."""


class _PageBuilder:
    """Gathers keys into pages."""

    def __init__(self) -> None:
        self.full: list[ManifestPage] = []
        self._keys: list[BlockKey] = []
        self._number = 0
        self._offset = 0

    def extend(self, keys: Sequence[BlockKey]) -> None:
        """Append the blocks `keys`."""
        self._keys += keys
        while len(self._keys) >= MAX_PAGE_ENTRIES:
            self._close_page(self._keys[:MAX_PAGE_ENTRIES])
            del self._keys[:MAX_PAGE_ENTRIES]

    def rest(self) -> list[ManifestPage]:
        """The pages not handed on yet; the last may be short."""
        if self._keys:
            self._close_page(self._keys)
            self._keys = []
        return self.full

    def _close_page(self, keys: Sequence[BlockKey]) -> None:
        page = ManifestPage(self._number, self._offset, keys)
        self.full.append(page)
        self._number += 1
        self._offset = page.end
