"""`graviton verify` of a store that can only be read: one behind a URL.

Every byte is read through the store, which verifies each block before it leaves, and hashed once more here. What cannot
be read is named by its blob, block and byte range, as the store's own verification names it, and the rest is read all
the same. What no reading shows (records, pages, blocks that no blob uses, the metadata's own sums) is for a run on the
store itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.streams import closing, for_each
from graviton.core.clock import Clock, SystemClock
from graviton.core.hashing import Hasher
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound
from graviton.ports.any_store import AnyStore
from graviton.ports.blobs import BlobStat
from graviton.services.findings import MISMATCH, Damage, Part, Report, VerifySummary

__all__ = ["ReadVerification"]

_STREAMS = 4
"""Blobs read at the same time: a network answers late, and gives much."""

_THREADS = 2


class ReadVerification:
    """One run over some blobs or all, as `Verification`. `summary` sums up."""

    def __init__(
        self, store: AnyStore, report: Report, *, progress: Callable[[int], None], clock: Clock | None = None
    ) -> None:
        """`report` and `progress` (bytes of blobs done since the last call) are called on the event loop."""
        self._store, self._report, self._progress = store, report, progress
        self._pool = WorkerPool(_THREADS, "verify")
        self._clock = clock or SystemClock()
        self._begun = self._clock.monotonic()
        self._blobs = self._blocks = self._logical = self._read_bytes = self._damaged_blobs = self._damages = 0

    async def blobs(self, keys: Iterable[BlobKey]) -> None:
        """Verify these blobs. Raises NotFound for one that is not there, before anything is read."""
        found: list[BlobStat] = []
        for key in keys:
            stat = await self._store.stat(key)
            if stat is None:
                raise NotFound(
                    f"there is no blob {key}",
                    operation="verify",
                    subject=key.text,
                    hint="`graviton ls` lists the blobs.",
                )
            found.append(stat)
        await for_each(found, self._blob, _STREAMS)

    async def everything(self) -> None:
        """Verify every blob of the default domain."""
        await for_each(self._listed(), self._blob, _STREAMS)

    async def _listed(self) -> AsyncIterator[BlobStat]:
        try:
            async for stat in self._store.list():
                yield stat
        except IntegrityError as error:
            self._found(Damage(Part.STORE, f"does not tell all blobs: {error.message}"))

    @property
    def summary(self) -> VerifySummary:
        """What was done until now. Blocks that several blobs have count as often: nobody can see here that they are the
        same."""
        return VerifySummary(
            self._blobs,
            self._blocks,
            self._logical,
            self._read_bytes,
            self._damaged_blobs,
            self._damages,
            0,
            self._clock.monotonic() - self._begun,
        )

    async def _blob(self, stat: BlobStat) -> None:
        key, before = stat.key, self._damages
        try:
            await self._read_all(key)
        except NotFound:
            return  # deleted meanwhile
        self._blobs += 1
        self._blocks += stat.blocks
        self._logical += key.size
        self._damaged_blobs += self._damages > before

    async def _read_all(self, key: BlobKey) -> None:
        hasher = key.algo.hasher()
        at = await self._read(key, 0, hasher)
        if at == key.size and hasher.digest() != key.digest:
            self._found(Damage(Part.BLOB, MISMATCH, key, span=Span(0, key.size)))
        while at < key.size:
            at = await self._past_damage(key, at)
            if at < key.size:
                at = await self._read(key, at, None)

    async def _read(self, key: BlobKey, start: int, hasher: Hasher | None, end: int | None = None) -> int:
        """Read from `start` to `end`, or as far as that can be; how far that is."""
        at, end = start, key.size if end is None else end
        try:
            span = None if (start, end) == (0, key.size) else Span(start, end)
            async with await self._store.get(key, span) as reader:
                async for piece in reader:
                    if hasher is not None:
                        await in_thread(self._pool, hasher.update, piece)
                    at += len(piece)
                    self._read_bytes += len(piece)
                    self._progress(len(piece))
        except IntegrityError:
            pass  # what came before was right; where the damage is, the blocks will show
        return at

    async def _past_damage(self, key: BlobKey, at: int) -> int:
        """Find and report the next block from `at` on that cannot be read; where it ends."""
        try:
            async with closing(self._store.manifest(key)) as entries:
                async for entry in entries:
                    if entry.end > at and await self._read(key, entry.offset, None, entry.end) < entry.end:
                        self._progress(entry.key.size)
                        self._found(Damage(Part.BLOCK, "cannot be read", key, entry.key, Span(entry.offset, entry.end)))
                        return entry.end
            self._found(Damage(Part.BLOB, MISMATCH, key, span=Span(0, key.size)))
        except IntegrityError as error:
            self._found(Damage(Part.BLOB, f"cannot be read: {error.message}", key, span=Span(at, key.size)))
        return key.size

    def _found(self, damage: Damage) -> None:
        self._damages += 1
        self._report(damage)

    async def aclose(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    async def __aenter__(self) -> ReadVerification:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
