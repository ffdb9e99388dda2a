"""A directory tree into a store: every file a blob, and a listing of them, itself a blob, that brings the tree back.

walk -> batches -> put (small files of a batch together, large ones side by side) -> listing, in a spool file -> put.
While one batch is put the next is read. Memory: two batches, whatever the size of the tree.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Set
from functools import partial
from typing import Final, NamedTuple, Protocol

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.throttle import Throttle
from graviton.core.attributes import MIME, BinaryAttributes
from graviton.core.keys import BlobKey
from graviton.core.listing import ListingEntry
from graviton.core.policies import BlobWritePlan
from graviton.errors import GravitonError
from graviton.ports.blobs import BlobSource, BlobWriteResult, SmallBlob
from graviton.services.own_places import Identity
from graviton.services.sources import paced, read_error, read_up_to
from graviton.services.spool import ListingSpool, open_spool
from graviton.services.tree_walk import Found, TreeWalk

__all__ = ["LISTING_MIME", "TreeEvents", "TreePut", "TreePutResult", "TreeStore"]

LISTING_MIME: Final = "application/vnd.graviton.listing"
"""How the blob of a listing is told from other blobs."""

SMALL_BYTES: Final = 256 * 1024
"""Files up to this size are read into memory and put in groups."""

BATCH_BYTES: Final = 8 * 1024 * 1024
BATCH_FILES: Final = 1000
"""What a store puts as one group (stores/put_many.py)."""

BATCH_ENTRIES: Final = 4000
"""Folders and links cost nothing to put; this bounds the memory for them."""

LARGE_AT_ONCE: Final = 4
"""Large files put side by side: their reading, hashing and flushing overlap."""


class TreeStore(Protocol):
    """What a tree is put into."""

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        """See `BlobStore.put`."""
        ...

    def put_many(
        self, sources: Iterable[bytes | SmallBlob], plan: BlobWritePlan | None = None
    ) -> AsyncIterator[BlobWriteResult]:
        """See `CasBlobStore.put_many`."""
        ...


class TreeEvents(Protocol):
    """Who is told what happens; paths as a person would type them. `skipped` and `failed` may come from a thread."""

    def stored(self, path: str, result: BlobWriteResult) -> None:
        """A file is stored, durably."""
        ...

    def skipped(self, path: str, why: str) -> None:
        """Something is left out on purpose."""
        ...

    def changed(self, path: str) -> None:
        """A file changed while it was read; what was read is stored."""
        ...

    def failed(self, path: str, error: GravitonError) -> None:
        """Something could not be read and is left out."""
        ...


class TreePutResult(NamedTuple):
    """A tree that is stored."""

    listing: BlobWriteResult
    entries: int
    """Lines of the listing."""
    failed: int
    """Entries left out because they could not be read."""


class _Item(NamedTuple):
    """An entry of a batch: a small file has data, a large one is open, others have neither."""

    found: Found
    data: bytes | None = None
    file: io.FileIO | None = None


class _Ahead:
    """A batch that is read on the walking thread. What that has opened is known here at once: it could not be closed
    if it came with a result that nobody takes."""

    def __init__(self, pool: WorkerPool, read: Callable[[list[_Item], CancelFlag], None]) -> None:
        self._batch: list[_Item] = []
        self._reading = asyncio.ensure_future(pool.run(partial(read, self._batch)))

    async def batch(self) -> list[_Item]:
        """The batch, when it is read."""
        await self._reading
        return self._batch

    async def aclose(self) -> None:
        """Read no further, and close the files."""
        self._reading.cancel()
        try:
            await finish_anyway(asyncio.wait([self._reading]))
        finally:
            if not self._reading.cancelled():
                self._reading.exception()  # retrieved: what brought us here was first
            _close(self._batch)


class TreePut:
    """One tree on its way in. Use once."""

    def __init__(
        self,
        store: TreeStore,
        events: TreeEvents,
        *,
        plan: BlobWritePlan | None = None,
        attributes_of: Callable[[str], BinaryAttributes] = lambda path: BinaryAttributes.EMPTY,
        listing_attributes: BinaryAttributes = BinaryAttributes.EMPTY,
        follow: bool = False,
        throttle: Throttle | None = None,
        spool_folder: str | None = None,
    ) -> None:
        """`plan` is for every file, `attributes_of(path)` beside its attributes; `listing_attributes` are for the
        listing, whose MIME type is set here."""
        self._store, self._events = store, events
        self._plan = plan or BlobWritePlan()
        self._attributes_of = attributes_of
        self._listing_attributes = listing_attributes
        self._follow, self._throttle, self._spool_folder = follow, throttle, spool_folder
        self._failed = 0
        self._entries = 0

    async def run(self, root: str, excluded: Set[Identity], at_ns: int) -> TreePutResult:
        """Put the tree below `root`, never reading what is `excluded`; `at_ns` stamps the listing's attributes.

        What cannot be read is reported and left out. Raises NotFound, PermissionDenied, InvalidInput if `root` cannot
        be read, and what the store raises; files put until then stay.
        """
        walk = TreeWalk(
            root,
            follow=self._follow,
            excluded=excluded,
            skipped=lambda path, why: self._events.skipped(walk.shown(path), why),
            failed=lambda path, error: self._fail(walk.shown(path), error),
        )
        try:
            with open_spool(self._spool_folder) as spool:
                await self._put_files(walk, ListingSpool(spool))
                spool.seek(0)
                values = {MIME: LISTING_MIME}
                attributes = self._listing_attributes.advertise(values, at_ns=at_ns, source="cli")
                listing = await self._store.put(spool, self._plan.replace(attributes=attributes))
        finally:
            walk.close()
        return TreePutResult(listing, self._entries, self._failed)

    async def _put_files(self, walk: TreeWalk, listing: ListingSpool) -> None:
        read = partial(self._read_batch, iter(walk), walk)
        with WorkerPool(1, "walk") as pool:
            ahead = _Ahead(pool, read)
            try:
                while batch := await ahead.batch():
                    ahead = _Ahead(pool, read)
                    await self._put_batch(batch, walk, listing)
            finally:
                await ahead.aclose()
        listing.flush()

    def _read_batch(self, entries: Iterator[Found], walk: TreeWalk, batch: list[_Item], flag: CancelFlag) -> None:
        """Fill `batch` with the next entries, small files read. Runs on the walking thread."""
        size = small = large = 0
        for found in entries:
            item = self._read(found, walk)
            if item is not None:
                batch.append(item)
                small += item.data is not None
                size += len(item.data or b"")
                large += item.file is not None
            full = large >= LARGE_AT_ONCE or small >= BATCH_FILES or size >= BATCH_BYTES - SMALL_BYTES
            if full or len(batch) >= BATCH_ENTRIES or flag.cancelled:
                break

    def _read(self, found: Found, walk: TreeWalk) -> _Item | None:
        file = found.file
        if file is None:
            return _Item(found)
        if found.size > SMALL_BYTES:
            return _Item(found, file=file)
        try:
            data = read_up_to(file, SMALL_BYTES + 1)
            if len(data) > SMALL_BYTES:  # it grew
                file.seek(0)
                return _Item(found, file=file)
            self._compare(found, len(data), walk)
        except OSError as error:
            file.close()
            shown = walk.shown(found.path)
            self._fail(shown, read_error(error, shown))
            return None
        file.close()
        return _Item(found, data)

    def _compare(self, found: Found, size: int, walk: TreeWalk) -> None:
        """Tell if the file is no longer what it was when it was opened."""
        assert found.file is not None
        info = os.fstat(found.file.fileno())
        if size != found.size or info.st_mtime_ns != found.mtime_ns or info.st_size != found.size:
            self._events.changed(walk.shown(found.path))

    async def _put_batch(self, batch: list[_Item], walk: TreeWalk, listing: ListingSpool) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                small = group.create_task(self._put_small([item for item in batch if item.data is not None], walk))
                large = {
                    index: group.create_task(self._put_large(item, walk))
                    for index, item in enumerate(batch)
                    if item.file is not None
                }
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            _close(batch)
        keys = iter(small.result())
        for index, item in enumerate(batch):
            if item.data is not None:
                self._list(item.found, next(keys), walk, listing)
            elif index not in large:
                self._list(item.found, None, walk, listing)
            elif (key := large[index].result()) is not None:
                self._list(item.found, key, walk, listing)

    async def _put_small(self, items: list[_Item], walk: TreeWalk) -> list[BlobKey]:
        keys: list[BlobKey] = []
        blobs = [
            SmallBlob(item.data, self._attributes_of(walk.shown(item.found.path)))
            for item in items
            if item.data is not None
        ]
        if self._throttle is not None:
            await self._throttle.take(sum(len(blob.data) for blob in blobs))
        if blobs:
            async for result in self._store.put_many(blobs, self._plan):
                self._events.stored(walk.shown(items[len(keys)].found.path), result)
                keys.append(result.key)
        return keys

    async def _put_large(self, item: _Item, walk: TreeWalk) -> BlobKey | None:
        """The key; None if the file cannot be read. What the store raises for itself goes on."""
        assert item.file is not None
        shown = walk.shown(item.found.path)
        source: BlobSource = item.file if self._throttle is None else paced(item.file, self._throttle)
        try:
            result = await self._store.put(source, self._plan_for(shown))
        except GravitonError as error:
            if error.subject != shown:
                raise
            self._fail(shown, error)
            return None
        self._compare(item.found, result.stats.size, walk)
        self._events.stored(shown, result)
        return result.key

    def _plan_for(self, shown: str) -> BlobWritePlan:
        return self._plan.replace(attributes=self._plan.attributes.merge(self._attributes_of(shown)))

    def _list(self, found: Found, key: BlobKey | None, walk: TreeWalk, listing: ListingSpool) -> None:
        try:
            listing.add(ListingEntry(found.type, found.path, found.mode, found.mtime_ns, key, found.target))
            self._entries += 1
        except GravitonError as error:
            self._fail(walk.shown(found.path), error)

    def _fail(self, shown: str, error: GravitonError) -> None:
        self._failed += 1
        self._events.failed(shown, error)


def _close(batch: list[_Item]) -> None:
    for item in batch:
        if item.file is not None:
            item.file.close()
