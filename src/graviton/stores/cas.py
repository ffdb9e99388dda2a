"""`CasBlobStore`: blobs over content-addressed blocks, a block index and manifests.

The way in is `put.py` (one blob) and `put_many.py` (many small ones), the way out `streaming.py`; this file puts them
behind the `BlobStore` port and decides nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any

from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.lifetime import Lifetime
from graviton.constraints.budget import BudgetShare, ByteBudget
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestEntry
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import NotFound, RangeNotSatisfiable
from graviton.ports.blobs import (
    BlobReader,
    BlobSource,
    BlobStat,
    BlobStore,
    BlobWriteResult,
    SmallBlob,
    check_limit,
)
from graviton.ports.block_index import BlockIndex
from graviton.ports.blocks import BlockStore
from graviton.ports.events import Event, EventKind, EventSink, NoEvents
from graviton.ports.manifests import BlobManifestRepo, StoreTotals, unlistable
from graviton.ports.metrics import MetricsRegistry, NoMetrics
from graviton.ports.reclaimer import BlockReclaimer
from graviton.ports.tracing import NoTracer, Tracer
from graviton.stores.block_access import BlockAccess
from graviton.stores.fillers import open_filler
from graviton.stores.groups_ahead import in_order
from graviton.stores.intake import Parts
from graviton.stores.operations import Operations
from graviton.stores.put import put_one
from graviton.stores.put_many import MAX_SMALL_BYTES, Item, groups, put_group
from graviton.stores.reporting import PutReporter
from graviton.stores.results import CasDefaults, ListedStats, stat_of, wanted
from graviton.stores.segments import Segments, bytes_segments, filled_segments
from graviton.stores.small_gets import MAX_SMALL_GET_BYTES, SmallGets
from graviton.stores.small_puts import SmallPuts
from graviton.stores.streaming import WINDOW_BLOCKS, WINDOW_BLOCKS_HERE, CasBlobReader, FoundBlob, ReadParts

if TYPE_CHECKING:
    from graviton.stores.limits.arrivals import Arrival, GroupArrival
    from graviton.stores.limits.limits import StoreLimits

__all__ = ["CasBlobStore"]

_LIST_PAGE = 500
"""Blobs fetched per hop while listing."""

_THREADS = 4
"""Threads for reading files, hashing and writing outputs: two to keep two cores busy, two that wait for disks."""


_SMALL_GETS_SHARE = 16
"""What small gets may fetch before anybody reads it, as a divisor of the budget: readers that are left unread hold it.
Puts, and reads of the largest blocks, must go on beside them."""


class CasBlobStore(BlobStore):
    """See `BlobStore` for the laws. `aclose` closes the block store too; the key-value store under the metadata belongs
    to whoever opened it."""

    def __init__(
        self,
        kernel: Kernel,
        blocks: BlockStore,
        index: BlockIndex,
        manifests: BlobManifestRepo,
        reclaimer: BlockReclaimer | None = None,
        *,
        reads: BlockStore | None = None,
        defaults: CasDefaults = CasDefaults(),
        budget: ByteBudget | None = None,
        limits: StoreLimits | None = None,
        metrics: MetricsRegistry | None = None,
        events: EventSink | None = None,
        clock: Clock | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`reads` is `blocks` behind a cache: where readers get the blocks of blobs, and nobody else anything.
        `limits` are asked by every put, get and delete; they are over the same metadata."""
        self.defaults = defaults
        self.manifests = manifests
        self.index = index
        self.blocks = blocks
        self.budget = budget or ByteBudget()
        self.capabilities = blocks.capabilities
        self._metrics = metrics or NoMetrics()
        self._events = events or NoEvents()
        self._clock = clock or SystemClock()
        self._pool = WorkerPool(_THREADS, "store")
        self._operations = Operations(self._metrics, tracer)
        self._tracer = tracer or NoTracer()
        self._lifetime = Lifetime("store", "store")
        self.parts = Parts(kernel, blocks, index, manifests, self._pool, self.budget, self._clock, limits)
        """What puts work with, for other ways in over the same store."""
        self.reporter = PutReporter(self._metrics, self._events, self._clock)
        self.limits = limits
        self._small_puts = SmallPuts(self.parts) if _run_in_place(manifests, blocks) else None
        self._shares_puts = self._small_puts is not None or limits is not None
        """Small `bytes` are put as groups are: with limits because the key is known before anything is asked then."""
        self._outermost = outermost = reads or blocks
        self._small_gets = SmallGets(manifests, outermost) if _run_in_place(manifests, outermost) else None
        self._small_share = BudgetShare(self.budget, max(self.budget.total // _SMALL_GETS_SHARE, 1))
        self._window_blocks = WINDOW_BLOCKS_HERE if outermost.capabilities.runs_in_place else WINDOW_BLOCKS
        self.access = BlockAccess(blocks, reclaimer, index, self._metrics, self._events, self._clock)
        """Looks at the blocks themselves, for verification."""
        self._reading = self.access
        if reads is not None:
            self._reading = BlockAccess(reads, reclaimer, index, self._metrics, self._events, self._clock)

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        asked = wanted(plan, self.defaults)
        with self._counted("put"):
            if isinstance(source, bytes) and len(source) <= MAX_SMALL_BYTES and self._shares_puts:
                if self.limits is not None:
                    await self.limits.pace(len(source))  # here: others share the thread of small puts
                result = await self._put_small(Item(source, asked))
            elif self.limits is None:
                result = await put_one(self.parts, await self._segments(source, asked.chunker), asked)
            else:
                async with self.limits.arrival(asked.plan) as arrival:
                    segments = await self._segments(source, asked.chunker, arrival)
                    result = await put_one(self.parts, segments, asked, arrival)
        self.reporter.report([result])
        return result

    async def _put_small(self, item: Item) -> BlobWriteResult:
        if self._small_puts is not None:
            return await self._small_puts.put(item)
        [result] = await put_group(self.parts, [item])
        return result

    async def put_many(
        self, sources: Iterable[bytes | SmallBlob], plan: BlobWritePlan | None = None
    ) -> AsyncGenerator[BlobWriteResult, None]:
        """Store many small blobs, in groups that share one fsync of the blocks and one commit.

        Results come in the order of `sources`, each when it is durable. A failing group raises and leaves nothing of
        it; the groups before it stay. What `sources` raises, or gives that cannot be put, is raised after everything
        before it was put. Blobs above `MAX_SMALL_BYTES` are put one by one between the groups. While one group waits
        for the disk the next is cut, hashed and written; they are committed in order.

        Iterate within `contextlib.aclosing` if you may leave early: then the groups ahead are undone when that is left.
        After a bare `break` that happens some turns of the event loop later, when the iterator is garbage.
        """
        asked = wanted(plan, self.defaults)
        async with aclosing(in_order(groups(sources, asked), self._room_for, self._put_group)) as results:
            async for result in results:
                yield result

    async def _room_for(self, group: Sequence[Item]) -> GroupArrival | None:
        """What a group asks for in its turn, so that none takes the room of one before it."""
        if self.limits is None:
            return None
        sizes = [(item.asked.plan.holder, len(item.data)) for item in group]
        return await self.limits.room_for(sizes, group[0].asked.plan.domain)

    async def _put_group(
        self, group: Sequence[Item], before: asyncio.Future[Any] | None, arrival: GroupArrival | None
    ) -> list[BlobWriteResult]:
        async with nullcontext() if arrival is None else arrival:
            if len(group) == 1:
                if before is not None:
                    await asyncio.shield(before)
                return [await self._put_alone(group[0], arrival)]
            with self._counted("put_many"):
                size = sum(len(item.data) for item in group)
                if self.limits is not None:
                    await self.limits.pace(size)
                # Read ahead for the caller; what is put one by one is his own memory, and in use already.
                lease = await self.budget.lease(size, self.budget.for_puts)
                try:
                    results = await put_group(self.parts, group, before, arrival)
                finally:
                    lease.release()
        self.reporter.report(results)
        return results

    async def _put_alone(self, item: Item, arrival: GroupArrival | None) -> BlobWriteResult:
        if self.limits is None or arrival is None:
            return await self.put(item.data, item.asked.plan)
        with self._counted("put"):
            await self.limits.pace(len(item.data))
            segments = bytes_segments(item.data, item.asked.chunker)
            result = await put_one(self.parts, segments, item.asked, arrival.alone(item.asked.plan.holder))
        self.reporter.report([result])
        return result

    async def _segments(self, source: BlobSource, spec: ChunkerSpec, arrival: Arrival | None = None) -> Segments:
        if isinstance(source, bytes):
            if arrival is not None:
                await arrival.take(len(source))
            return bytes_segments(source, spec)
        filler = await open_filler(source, self._pool)
        if arrival is not None:
            filler = arrival.counted(filler)
        return await filled_segments(filler, spec, self.budget)

    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        with self._counted("get"):
            found = await self._find(key, domain)
            if span is not None and span.end > key.size:
                raise RangeNotSatisfiable(
                    f"the bytes from {span.start} up to {span.end} do not lie within the {key.size} of blob {key}",
                    operation="get",
                    subject=key.text,
                )
        parts = ReadParts(
            self._reading, self.manifests, self.budget, self._pool, self._operations, domain, self._window_blocks
        )
        reader = CasBlobReader(parts, found, span or Span(0, key.size), whole=span is None)
        return reader if self.limits is None else self.limits.paced(reader)

    async def _find(self, key: BlobKey, domain: str) -> FoundBlob:
        """A visible blob, with its bytes if it is small and there is memory for them: nobody waits for that here, or
        who opens many readers would wait for himself. Raises NotFound."""
        if self._small_gets is not None and key.size <= MAX_SMALL_GET_BYTES:
            lease = self._small_share.try_lease(key.size)
            if lease is not None:
                found = await self._small_gets.find(key, domain, lease)
                if found is not None:
                    return found
        return FoundBlob(await self.manifests.get(key, domain))

    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        self._lifetime.check()
        try:
            return stat_of(await self.manifests.get(key, domain))
        except NotFound:
            return None

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        with self._counted("delete"):
            async with self._changing(holder, key, domain):
                deleted = await self.manifests.delete(key, holder, domain)
        if deleted:
            self._events.emit(Event(EventKind.BLOB_DELETED, self._clock.now_ns(), key.text))
        return deleted

    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Bring a deleted blob back for `holder`; False if it is there, or there is nothing left to bring back. Raises
        StorageFull."""
        with self._counted("undelete"):
            async with self._changing(holder, key, domain, comes_back=True):
                came_back = await self.manifests.undelete(key, holder, domain)
        if came_back:
            self._events.emit(Event(EventKind.BLOB_COMMITTED, self._clock.now_ns(), key.text, {"fresh_bytes": 0}))
        return came_back

    async def entries(self, key: BlobKey, start: int, limit: int, domain: str = "") -> list[ManifestEntry]:
        """Up to `limit` blocks of a blob in order, from the one that holds the byte `start`. Raises NotFound,
        IntegrityError, and RangeNotSatisfiable for a start beyond the end."""
        self._lifetime.check()
        record = await self.manifests.get(key, domain)
        if start > key.size:
            raise RangeNotSatisfiable(f"byte {start} is beyond the end of blob {key}", subject=key.text)
        found: list[ManifestEntry] = []
        async for page in self.manifests.pages(record, Span(start, key.size), domain):
            found += (entry for entry in page if entry.end > start)
            if len(found) >= limit:
                break
        return found[:limit]

    async def manifest(self, key: BlobKey, domain: str = "") -> AsyncIterator[ManifestEntry]:
        """All blocks of a blob in order. Raises NotFound, IntegrityError."""
        self._lifetime.check()
        async for page in self.manifests.pages(await self.manifests.get(key, domain), None, domain):
            for entry in page:
                yield entry

    async def list_page(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = _LIST_PAGE, domain: str = ""
    ) -> ListedStats:
        """Some blobs of a listing, past those whose metadata is damaged; fewer than `limit` only at the end. For who
        gives a listing on page by page: `list` raises at its end, which no page is."""
        self._lifetime.check()
        check_limit(limit)
        records, unreadable = await self.manifests.list_readable(prefix, after, limit, domain)
        return ListedStats([stat_of(record) for record in records], unreadable)

    def _changing(
        self, holder: str, key: BlobKey, domain: str, *, comes_back: bool = False
    ) -> AbstractAsyncContextManager[None]:
        limits = self.limits
        return nullcontext() if limits is None else limits.changing(holder, key, domain, comes_back=comes_back)

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        self._lifetime.check()
        check_limit(limit)
        left, unreadable, first = limit, 0, ""
        while left is None or left > 0:
            count = _LIST_PAGE if left is None else min(left, _LIST_PAGE)
            with self._tracer.span("store.list", blobs=count):
                records, damaged = await self.manifests.list_readable(prefix, after, count, domain)
            unreadable, first = unreadable + len(damaged), first or "".join(damaged[:1])
            for record in records:
                yield stat_of(record)
            if len(records) < count:
                break
            after = records[-1].key
            left = None if left is None else left - count
        if unreadable:
            raise unlistable(unreadable, first)

    async def totals(self, domain: str = "") -> StoreTotals:
        """The kept sums of a domain, at once."""
        self._lifetime.check()
        return await self.manifests.totals(domain)

    async def aclose(self) -> None:
        """Operations that are going on are ended: each cleans up after itself and raises Unavailable, whereupon the
        blob may be there only if it was just being committed. Readers raise Unavailable at their next block.

        Waits for that, never stopping the event loop. A silent pipe is left within a fraction of a second; a blocking
        iterator or file object only when its own code returns. Cancelling this ends the wait for it.
        """
        self._lifetime.is_closed = True
        if not self._lifetime.is_here:  # the threads and what is going on are the parent's
            await self._outermost.aclose()
            return
        try:
            await self._operations.end()
        finally:
            await finish_anyway(self._give_back())

    async def _give_back(self) -> None:
        if self._small_gets is not None:
            await self._small_gets.aclose()
        if self._small_puts is not None:
            await self._small_puts.aclose()
        await self._outermost.aclose()
        await self._pool.close()

    def _counted(self, operation: str) -> AbstractContextManager[None]:
        self._lifetime.check()
        return self._operations.running(operation)


def _run_in_place(manifests: BlobManifestRepo, blocks: BlockStore) -> bool:
    return manifests.capabilities.runs_in_place and blocks.capabilities.runs_in_place
