"""A put: all of a source into blocks (`intake.py`), then one commit that makes them a blob."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from graviton.concurrency.finishing import finish_anyway
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Digest
from graviton.core.keys import BlobKey
from graviton.errors import GravitonError
from graviton.ports.blobs import BlobWriteResult, IngestStats
from graviton.ports.manifests import BlobCommit, CommitResult
from graviton.stores.committing import commit_all
from graviton.stores.intake import Counts, Intake, Parts
from graviton.stores.results import Wanted, check_claims, confirmed, result_of
from graviton.stores.segments import Segments

if TYPE_CHECKING:
    from graviton.stores.limits.room import Room

__all__ = ["Put", "put_one"]


async def put_one(parts: Parts, segments: Segments, asked: Wanted, room: Room | None = None) -> BlobWriteResult:
    """Put one blob, whole or not at all. Closes `segments`. `room` is asked before new blocks are written, and before
    the commit."""
    started = time.perf_counter()
    put: Put | None = None
    try:
        put = Put(parts, asked, room)
        done = await put.run(segments)
        check_claims(asked.plan.attributes, done.key)
        attributes = confirmed(asked.plan.attributes, done.key.size, done.counts.blocks, parts.clock)
        if room is not None:
            await room.promise(done.key)
        committed = await put.commit(done.key, attributes)
    except BaseException:
        await finish_anyway(_give_up(put, segments))
        raise
    await segments.aclose()
    stats = IngestStats(done.key.size, *done.counts, seconds=time.perf_counter() - started)
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
    counts: Counts


class Put:
    """One blob on its way in. `run`, then `commit`; `abort` after any failure of either."""

    def __init__(self, parts: Parts, asked: Wanted, room: Room | None = None) -> None:
        self._parts, self._asked = parts, asked
        self._ingest = parts.kernel.ingest(asked.chunker, asked.hash)
        check_fresh = None if room is None else room.check_fresh
        self._intake = Intake(parts, self._ingest, asked.hash, asked.plan.domain, check_fresh=check_fresh)

    async def run(self, segments: Segments) -> Ingested:
        """Read, cut, hash, claim and write everything."""
        await self._intake.read(segments, self._flush, ends_blob=lambda: True)
        raw, size = self._ingest.finish()
        return Ingested(BlobKey(Digest(self._asked.hash, raw), size), self._intake.counts)

    async def commit(self, key: BlobKey, attributes: BinaryAttributes) -> CommitResult:
        """Make the blob visible. Raises Conflict if the session was ended meanwhile."""
        asked, intake, parts = self._asked, self._intake, self._parts
        assert intake.session is not None, "commit comes after run"
        pages, durable = intake.pages.rest(), intake.take_durable()
        commit = BlobCommit(intake.session, key, pages, durable, attributes, asked.chunker.text, asked.plan.holder)
        [result] = await commit_all(parts.manifests, parts.block_index, [commit], asked.plan.domain)
        return result

    async def abort(self) -> None:
        """Stop all writers and end the session. Safe at any time; never raises what the backend says: a session that
        cannot be ended now expires."""
        await self._intake.stop()
        if self._intake.session is not None:
            try:
                await self._parts.block_index.end(self._intake.session)
            except GravitonError:
                pass  # whoever cannot write now has told so already, by the error that brought us here

    async def _flush(self) -> None:
        """Hand full pages and what is durable by now to the metadata, so that neither piles up."""
        intake = self._intake
        if len(intake.pages.full) >= _FLUSH_PAGES:
            assert intake.session is not None
            await self._parts.manifests.add_pages(intake.session, intake.pages.take_full(), intake.take_durable())


_FLUSH_PAGES = 2
"""Full pages kept at most before they are written: 590 KB of keys as objects take about 2 MB."""
