"""`CasBlobStore`: blobs over content-addressed blocks, a block index and manifests.

The way in is `put.py` (one blob) and `put_many.py` (many small ones), the way out `streaming.py`; this file puts them
behind the `BlobStore` port and decides nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractContextManager

from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.lifetime import Lifetime
from graviton.constraints.budget import BudgetShare, ByteBudget
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey
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
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics
from graviton.ports.reclaimer import BlockReclaimer
from graviton.stores.block_access import BlockAccess
from graviton.stores.fillers import open_filler
from graviton.stores.operations import Operations
from graviton.stores.put import Parts, put_one
from graviton.stores.put_many import MAX_SMALL_BYTES, Item, groups, put_group
from graviton.stores.results import CasDefaults, stat_of, wanted
from graviton.stores.segments import Segments, bytes_segments, filled_segments
from graviton.stores.small_gets import MAX_SMALL_GET_BYTES, SmallGets
from graviton.stores.small_puts import SmallPuts
from graviton.stores.streaming import WINDOW_BLOCKS, WINDOW_BLOCKS_HERE, CasBlobReader, FoundBlob, ReadParts

__all__ = ["CasBlobStore"]

_LIST_PAGE = 500
"""Blobs fetched per hop while listing."""

_GROUPS_AT_ONCE = 2
"""Groups of small blobs in work: one waits for the disk, the other for the processor."""

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
        metrics: MetricsRegistry | None = None,
        events: EventSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`reads` is `blocks` behind a cache: where readers get the blocks of blobs, and nobody else anything."""
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
        self._operations = Operations(self._metrics)
        self._lifetime = Lifetime("store", "store")
        self._parts = Parts(kernel, blocks, index, manifests, self._pool, self.budget, self._clock)
        self._outermost = outermost = reads or blocks
        self._small_puts = SmallPuts(self._parts) if _run_in_place(manifests, blocks) else None
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
            if self._small_puts is not None and isinstance(source, bytes) and len(source) <= MAX_SMALL_BYTES:
                result = await self._small_puts.put(Item(source, asked))
            else:
                result = await put_one(self._parts, await self._segments(source, asked.chunker), asked)
        self._report([result])
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
        going_on: deque[asyncio.Task[list[BlobWriteResult]]] = deque()
        failure: Exception | None = None
        try:
            for group in groups(sources, asked):
                if isinstance(group, Exception):
                    failure = group
                    break
                before = going_on[-1] if going_on else None
                going_on.append(asyncio.create_task(self._put_group(group, before)))
                if len(going_on) == _GROUPS_AT_ONCE:
                    for result in await going_on.popleft():
                        yield result
            while going_on:
                for result in await going_on.popleft():
                    yield result
            if failure is not None:
                raise failure
        finally:
            for task in going_on:
                task.cancel()
            await asyncio.gather(*going_on, return_exceptions=True)

    async def _put_group(
        self, group: Sequence[Item], before: asyncio.Task[list[BlobWriteResult]] | None
    ) -> list[BlobWriteResult]:
        if len(group) == 1:
            if before is not None:
                await asyncio.shield(before)
            return [await self.put(group[0].data, group[0].asked.plan)]
        with self._counted("put_many"):
            # Read ahead for the caller; what is put one by one is his own memory, and in use already.
            lease = await self.budget.lease(sum(len(item.data) for item in group), self.budget.for_puts)
            try:
                results = await put_group(self._parts, group, before)
            finally:
                lease.release()
        self._report(results)
        return results

    async def _segments(self, source: BlobSource, spec: ChunkerSpec) -> Segments:
        if isinstance(source, bytes):
            return bytes_segments(source, spec)
        filler = await open_filler(source, self._pool)
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
        return CasBlobReader(parts, found, span or Span(0, key.size), whole=span is None)

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
            deleted = await self.manifests.delete(key, holder, domain)
        if deleted:
            self._events.emit(Event(EventKind.BLOB_DELETED, self._clock.now_ns(), key.text))
        return deleted

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        self._lifetime.check()
        check_limit(limit)
        left, unreadable, first = limit, 0, ""
        while left is None or left > 0:
            count = _LIST_PAGE if left is None else min(left, _LIST_PAGE)
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

    def _report(self, results: Sequence[BlobWriteResult]) -> None:
        stats = [result.stats for result in results]
        fresh, blocks = sum(one.fresh_blocks for one in stats), sum(one.blocks for one in stats)
        self._metrics.counter(MetricKeys.BYTES_INGESTED, sum(one.size for one in stats))
        self._metrics.counter(MetricKeys.BLOCKS_INGESTED, fresh, status="fresh")
        self._metrics.counter(MetricKeys.BLOCKS_INGESTED, blocks - fresh, status="duplicate")
        if isinstance(self._events, NoEvents):
            return
        for result in results:
            if result.created:
                facts = {"fresh_bytes": result.stats.fresh_bytes}
                self._events.emit(Event(EventKind.BLOB_COMMITTED, self._clock.now_ns(), result.id, facts))

    def _counted(self, operation: str) -> AbstractContextManager[None]:
        self._lifetime.check()
        return self._operations.running(operation)


def _run_in_place(manifests: BlobManifestRepo, blocks: BlockStore) -> bool:
    return manifests.capabilities.runs_in_place and blocks.capabilities.runs_in_place
