"""The verification of one blob: pages, block records, blocks, and the digest over all of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.constraints.budget import ByteBudget
from graviton.core.keys import BlockKey
from graviton.core.manifests import ManifestEntry, ManifestPage
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound
from graviton.ports.block_index import BlockIndex, BlockRecord, BlockState
from graviton.ports.blocks import BlockStore
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import BlobManifestRepo
from graviton.services.blob_rows import FoundBlob
from graviton.services.block_checks import BlockChecks, StoredSizes
from graviton.services.findings import MISMATCH, Damage, Part, Report
from graviton.services.manifest_walk import PageDamage, walk_manifest
from graviton.stores.block_access import BlockAccess

__all__ = ["BlobCheck", "VerifyParts"]

_INLINE_BYTES = 64 * 1024
"""Smaller blocks are hashed at once: a thread hop (35 to 125 us) would cost more."""

_UNFIT = {
    BlockState.PENDING: "is pending: the blob relies on bytes that nobody confirmed",
    BlockState.CONDEMNED: "is condemned, although the blob uses the block",
}
"""What the record of a visible blob's block must never be. A damaged one is the block's own damage."""


class VerifyParts(NamedTuple):
    """The store under verification."""

    kv: KeyValueStore
    block_index: BlockIndex
    manifests: BlobManifestRepo
    blocks: BlockStore
    access: BlockAccess
    budget: ByteBudget
    sizes: StoredSizes | None = None
    """What a quick run compares sizes with; without it, it looks for existence only."""


class BlobCheck:
    """One blob. What is found is reported at once, unless the blob turns out to be deleted meanwhile: then its pages
    and blocks go away, and that is no damage."""

    def __init__(
        self,
        parts: VerifyParts,
        checks: BlockChecks,
        pool: WorkerPool,
        found: FoundBlob,
        domain: str,
        report: Report,
        progress: Callable[[int], None],
    ) -> None:
        record = found.record
        self._parts, self._checks, self._pool, self._record = parts, checks, pool, record
        self._pages, self._known = found.pages, found.blocks
        self._domain, self._report, self._progress = domain, report, progress
        self._hasher = record.key.algo.hasher()
        self._is_proven = False
        self.is_sound = True
        """Nothing is damaged so far."""
        self.is_gone = False
        """The blob was deleted meanwhile."""

    async def run(self, quick: bool) -> None:
        """Check everything, or all but the bytes of blocks."""
        async with aclosing(walk_manifest(self._parts.kv, self._record, self._pages)) as pages:
            async for item in pages:
                if isinstance(item, PageDamage):
                    await self._found(Part.PAGE, item.problem, item.span)
                    self._progress(item.span.length)
                    continue
                unfit = await self._records(item)
                if quick:
                    await self._exist(item)
                elif not self._prove(item):
                    await self._read(item)
                for entry, problem in unfit:
                    # Of a block that is lost as well, that was told, and its record can be no other.
                    if not self._checks.is_known_bad(entry.key):
                        await self._found(Part.BLOCK_RECORD, problem, Span(entry.offset, entry.end), entry.key)
        if not quick and self.is_sound and not self._is_proven:
            await self._whole()

    def _prove(self, page: ManifestPage) -> bool:
        """Whether the blob is one block, which was found sound before: then there is nothing left to read."""
        [first, *others], blob = page.keys, self._record.key
        same = (first.digest, first.size) == (blob.digest, blob.size)
        self._is_proven = not others and same and self._checks.is_sound(first)
        if self._is_proven:
            self._progress(first.size)
        return self._is_proven

    async def _records(self, page: ManifestPage) -> list[tuple[ManifestEntry, str]]:
        """Report the records that are lost; entries and problems of those that are there and in the wrong state."""
        records = await self._lookup(page.keys)
        unfit: dict[BlockKey, tuple[ManifestEntry, str]] = {}
        reported: set[BlockKey] = set()
        for entry in page:
            found = records[entry.key]
            if isinstance(found, BlockRecord):
                if found.state in _UNFIT:
                    unfit.setdefault(entry.key, (entry, _UNFIT[found.state]))
            elif entry.key not in reported:
                reported.add(entry.key)
                await self._found(Part.BLOCK_RECORD, found, Span(entry.offset, entry.end), entry.key)
        return list(unfit.values())

    async def _lookup(self, keys: tuple[BlockKey, ...]) -> dict[BlockKey, BlockRecord | str]:
        """The record of each key, or what is wrong with it."""
        distinct = list(dict.fromkeys(keys))
        if all(key in self._known for key in distinct):
            return {key: self._known[key] or "is missing" for key in distinct}
        try:
            records = await self._parts.block_index.records(distinct, self._domain)
        except IntegrityError:
            if len(distinct) == 1:
                return {distinct[0]: "is damaged"}
            middle = len(distinct) // 2
            halves = tuple(distinct[:middle]), tuple(distinct[middle:])
            return await self._lookup(halves[0]) | await self._lookup(halves[1])
        return {key: record or "is missing" for key, record in zip(distinct, records, strict=True)}

    async def _exist(self, page: ManifestPage) -> None:
        problems = await self._checks.missing(page.keys)
        if problems:
            for entry in page:
                if entry.key in problems:
                    await self._found(Part.BLOCK, problems[entry.key], Span(entry.offset, entry.end), entry.key)
        self._progress(page.end - page.offset)

    async def _read(self, page: ManifestPage) -> None:
        async with aclosing(self._checks.in_order(page)) as blocks:
            async for entry, found in blocks:
                await self._take(entry, found)
                self._progress(entry.key.size)

    async def _take(self, entry: ManifestEntry, found: bytes | str) -> None:
        if isinstance(found, str):
            await self._found(Part.BLOCK, found, Span(entry.offset, entry.end), entry.key)
        elif not self.is_sound:
            return  # the blob's digest cannot be known any more; the blocks still can
        elif len(found) < _INLINE_BYTES:
            self._hasher.update(found)
        else:
            await in_thread(self._pool, self._hasher.update, found)

    async def _whole(self) -> None:
        blob = self._record.key
        if (self._hasher.digest(), self._hasher.size) != (blob.digest, blob.size):
            await self._found(Part.BLOB, MISMATCH, Span(0, blob.size))

    async def _found(self, part: Part, problem: str, span: Span, block: BlockKey | None = None) -> None:
        self.is_sound = False
        self.is_gone = self.is_gone or await self._look_gone()
        if not self.is_gone:
            self._report(Damage(part, problem, self._record.key, block, span))

    async def _look_gone(self) -> bool:
        record = self._record
        try:
            return (await self._parts.manifests.get(record.key, self._domain)).owner != record.owner
        except NotFound:
            return True
        except IntegrityError:
            return False
