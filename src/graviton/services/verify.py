"""`graviton verify`: whether every byte of the blobs is there and right, and which ones are not.

What is checked, for each blob: its record; every page of its manifest (seal, place, the digest over all of them); the
record of every block; every block's bytes against its digest; and the whole blob against its own. A damage does not
end anything: every one is reported, with blob, block and byte range.

What is read. A blob's digest needs its bytes in order, so a blob of several blocks is read once from end to end, and
its blocks are checked as they pass. A blob of one block is proven by that block. Blocks that no blob made us read come
last, each once. So a run costs the logical bytes of the blobs, not the stored ones: a block that ten versions share is
read ten times, mostly from the page cache, because only that proves ten blobs. Runs of equal blocks within a blob are
read once. A quick run reads no block at all: it asks for each one's existence and size, once.

Memory: a window of blocks per stream, drawn from the process's budget, and a fixed table of what was seen
(block_checks.py). Reads that find a damaged block mark its record as any read does, so that the next put repairs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.streams import for_each
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage
from graviton.core.names import decode_name
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.audit import Finding, Law, audit, domains
from graviton.metadata.row_walk import Row, walk_rows
from graviton.metadata.rows import (
    BLOBS,
    BLOCKS,
    BlockRow,
    block_key_of,
    domain_prefix,
)
from graviton.ports.block_index import BlockState
from graviton.ports.kv import ReadTransaction
from graviton.services.blob_check import BlobCheck, VerifyParts
from graviton.services.blob_rows import FoundBlob, walk_blobs
from graviton.services.block_checks import BlockChecks
from graviton.services.findings import Damage, Part, Report, VerifySummary

__all__ = ["Verification"]

_STREAMS = 4
"""Blobs verified at the same time: two keep two cores busy, two wait for the disk."""

_THREADS = 2
"""Threads for the digests of blobs; those of blocks are taken where they are read."""

_MAX_NAMED = 100_000
"""Names kept to tell the audit's news from what is known, about 20 MB; beyond that a damage may be reported twice."""

_CHECK_MANY = 512
"""Blocks without a blob that are looked up together."""


class Verification:
    """One run over some blobs or all. Every method may be called once or more; `summary` sums up."""

    def __init__(
        self,
        parts: VerifyParts,
        report: Report,
        *,
        quick: bool = False,
        progress: Callable[[int], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`report` and `progress` (bytes of blobs done since the last call) are called on the event loop."""
        self._parts = parts
        self._report, self._progress = report, progress or _no_progress
        self._quick = quick
        self._domain = ""
        self._checks = BlockChecks(parts.blocks, parts.access, parts.budget, "", parts.sizes)
        self._blocks = self._read_bytes = 0
        """Of domains that are done."""
        self._pool = WorkerPool(_THREADS, "verify")
        self._clock = clock or SystemClock()
        self._begun = self._clock.monotonic()
        self._named: set[str] = set()
        """Blobs and blocks that were reported: the audit meets the same damages again."""
        self._blobs = self._logical = self._damaged_blobs = self._damages = self._notes = 0

    async def blobs(self, keys: Iterable[BlobKey]) -> None:
        """Verify these blobs of the default domain. Raises NotFound for one that is not there, before anything is
        read."""
        records = []
        for key in keys:
            try:
                records.append(FoundBlob(await self._parts.manifests.get(key, self._domain)))
            except IntegrityError as error:
                self._record_damage(key, f"is damaged: {error.message}")
        await for_each(records, self._blob, _STREAMS)

    async def everything(self) -> None:
        """Verify every blob of every domain, every block that no blob made us look at, and the metadata: totals, the
        laws between its rows, and the files it lies in."""
        await self._whole_domain()
        async for name in self._other_domains():
            self._enter(name)
            await self._whole_domain()
        self._enter("")
        await self._structure()

    async def _whole_domain(self) -> None:
        await for_each(self._visible(), self._blob, _STREAMS)
        await self._other_blocks()

    async def _other_domains(self) -> AsyncIterator[str]:
        try:
            async for prefix in domains(self._parts.kv, domain_prefix("")):
                yield decode_name(prefix)[0]
        except (IntegrityError, InvalidInput) as error:
            self.found(Damage(Part.STORE, f"does not tell which domains there are: {error}"))

    def _enter(self, domain: str) -> None:
        """Go on with another domain, of whose blocks nothing is known yet."""
        parts, done = self._parts, self._checks
        self._blocks += done.looked_at
        self._read_bytes += done.read_bytes
        self._domain = domain
        self._checks = BlockChecks(parts.blocks, parts.access, parts.budget, domain, parts.sizes)

    def found(self, damage: Damage) -> None:
        """Count and report a finding in the domain at hand."""
        damage = damage._replace(domain=self._domain)
        if damage.is_note:
            self._notes += 1
        else:
            self._damages += 1
        if len(self._named) < _MAX_NAMED:
            self._named.update(key.text for key in (damage.blob, damage.block) if key is not None)
        self._report(damage)

    @property
    def summary(self) -> VerifySummary:
        """What was done until now."""
        return VerifySummary(
            self._blobs,
            self._blocks + self._checks.looked_at,
            self._logical,
            self._read_bytes + self._checks.read_bytes,
            self._damaged_blobs,
            self._damages,
            self._notes,
            self._clock.monotonic() - self._begun,
        )

    async def aclose(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    async def __aenter__(self) -> Verification:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _visible(self) -> AsyncIterator[FoundBlob]:
        try:
            async for blob in self._readable():
                yield blob
        except IntegrityError as error:  # the store cannot even get past the damage
            self.found(Damage(Part.STORE, f"does not tell all blobs: {error.message}"))

    async def _readable(self) -> AsyncIterator[FoundBlob]:
        async for found in walk_blobs(self._parts.kv, domain_prefix(self._domain)):
            if isinstance(found, FoundBlob):
                yield found
            elif found.key is None:
                self.found(Damage(Part.STORE, "has a blob row without a key"))
            elif await self._parts.kv.read(partial(_is_still, found.row)):
                self._record_damage(found.key, found.problem)

    def _record_damage(self, key: BlobKey, problem: str) -> None:
        self._blobs += 1
        self._logical += key.size
        self._damaged_blobs += 1
        self.found(Damage(Part.BLOB_RECORD, problem, key, span=Span(0, key.size)))

    async def _blob(self, blob: FoundBlob) -> None:
        check = BlobCheck(self._parts, self._checks, self._pool, blob, self._domain, self.found, self._progress)
        await check.run(self._quick)
        if not check.is_gone:
            self._blobs += 1
            self._logical += blob.record.key.size
            self._damaged_blobs += not check.is_sound

    async def _other_blocks(self) -> None:
        try:
            await self._unused_blocks()
        except IntegrityError as error:
            self.found(Damage(Part.STORE, f"does not tell all blocks: {error.message}"))

    async def _unused_blocks(self) -> None:
        batch: list[BlockKey] = []
        async for row in walk_rows(self._parts.kv, BLOCKS, domain_prefix(self._domain)):
            key, state = _block_of(row)
            if key is None:
                self.found(Damage(Part.STORE, "has a block record without a key", is_note=True))
            elif self._checks.is_sound(key) or self._checks.is_known_bad(key):
                continue
            elif state is None:
                self.found(Damage(Part.BLOCK_RECORD, "is damaged; no visible blob uses it", block=key, is_note=True))
            elif state in (BlockState.STORED, BlockState.DAMAGED):
                batch.append(key)
            if len(batch) >= _CHECK_MANY:
                await self._unused(batch)
                batch.clear()
        await self._unused(batch)

    async def _structure(self) -> None:
        for problem in await self._parts.kv.check():
            self.found(Damage(Part.STORE, f"has damaged files: {problem}"))
        async for finding in audit(self._parts.kv):
            if _is_news(finding, self._named):
                self.found(Damage(Part.STORE, f"breaks the law of {finding.law.value}: {_told(finding)}"))

    async def _unused(self, keys: Sequence[BlockKey]) -> None:
        if self._quick:
            problems = await self._checks.missing(keys)
        else:
            problems = {}
            entries = ManifestPage(0, 0, keys) if keys else ()
            async with aclosing(self._checks.in_order(entries)) as blocks:
                async for entry, found in blocks:
                    if isinstance(found, str):
                        problems[entry.key] = found
        for key, problem in problems.items():
            self.found(Damage(Part.BLOCK, f"{problem}; no visible blob uses it", block=key, is_note=True))


def _is_news(finding: Finding, named: set[str]) -> bool:
    """Whether the verification of blobs and blocks cannot have reported this: it looks at every blob's pages, and at
    the rows of blobs and blocks."""
    if finding.law is Law.PAGES or (finding.law is Law.ROW and finding.subject in (BLOBS, BLOCKS)):
        return False
    return finding.subject not in named


def _block_of(row: Row) -> tuple[BlockKey | None, BlockState | None]:
    """Key and state of a block record, as far as they can be read."""
    try:
        key = block_key_of(row.key, BLOCKS)
    except IntegrityError:
        return None, None
    try:
        return key, None if row.value is None else BlockRow.decode(row.value).state
    except IntegrityError:
        return key, None


def _is_still(row: Row, tx: ReadTransaction) -> bool:
    """Whether a blob's row is as it was read: what changed or went away meanwhile was not damaged."""
    try:
        return tx.get(BLOBS, row.key) == row.value
    except IntegrityError:
        return row.value is None


def _told(finding: Finding) -> str:
    return f"{finding.subject}: {finding.message}"


def _no_progress(count: int) -> None:
    pass
