"""Which way a put goes: alone, gathered with others that wait at the same moment, or in a group; and what it asks of
limits on the way. Every way ends in `put_one` or `put_group`, and is counted and reported once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from graviton.core.chunking import ChunkerSpec
from graviton.ports.blobs import BlobSource, BlobWriteResult, SmallBlob
from graviton.stores.fillers import open_filler
from graviton.stores.groups_ahead import in_order
from graviton.stores.intake import Parts
from graviton.stores.operations import Operations
from graviton.stores.put import put_one
from graviton.stores.put_many import MAX_SMALL_BYTES, Item, groups, put_group
from graviton.stores.reporting import PutReporter
from graviton.stores.results import Wanted
from graviton.stores.segments import Segments, bytes_segments, filled_segments
from graviton.stores.small_puts import SmallPuts

if TYPE_CHECKING:
    from graviton.stores.limits.arrivals import Arrival, GroupArrival

__all__ = ["PutDispatch"]


class PutDispatch:
    """The puts of one store."""

    def __init__(self, parts: Parts, operations: Operations, reporter: PutReporter, *, runs_in_place: bool) -> None:
        """`runs_in_place`: blocks and metadata do what they do on the thread that asks."""
        self._parts, self._limits = parts, parts.limits
        self._operations, self._reporter = operations, reporter
        self._small_puts = SmallPuts(parts) if runs_in_place else None
        self._shares_puts = runs_in_place or self._limits is not None
        """Small `bytes` are put as groups are: with limits because the key is known before anything is asked then."""

    async def put(self, source: BlobSource, asked: Wanted) -> BlobWriteResult:
        """One blob."""
        with self._operations.call("put"):
            if isinstance(source, bytes) and len(source) <= MAX_SMALL_BYTES and self._shares_puts:
                if self._limits is not None:
                    await self._limits.pace(len(source))  # here: others share the thread of small puts
                result = await self._put_small(Item(source, asked))
            elif self._limits is None:
                result = await put_one(self._parts, await self._segments(source, asked.chunker), asked)
            else:
                async with self._limits.arrival(asked.plan) as arrival:
                    segments = await self._segments(source, asked.chunker, arrival)
                    result = await put_one(self._parts, segments, asked, arrival)
        self._reporter.report([result])
        return result

    async def _put_small(self, item: Item) -> BlobWriteResult:
        if self._small_puts is not None:
            return await self._small_puts.put(item)
        [result] = await put_group(self._parts, [item])
        return result

    async def _segments(self, source: BlobSource, spec: ChunkerSpec, arrival: Arrival | None = None) -> Segments:
        if isinstance(source, bytes):
            if arrival is not None:
                await arrival.take(len(source))
            return bytes_segments(source, spec)
        filler = await open_filler(source, self._parts.pool)
        if arrival is not None:
            filler = arrival.counted(filler, getattr(source, "announced", None))
        return await filled_segments(filler, spec, self._parts.budget)

    def put_many(self, sources: Iterable[bytes | SmallBlob], asked: Wanted) -> AsyncGenerator[BlobWriteResult, None]:
        """Many small blobs, in groups. Use with `aclosing`."""
        return in_order(groups(sources, asked), self._room_for, self._put_group)

    async def _room_for(self, group: Sequence[Item]) -> GroupArrival | None:
        """What a group asks for in its turn, so that none takes the room of one before it."""
        if self._limits is None:
            return None
        sizes = [(item.asked.plan.holder, len(item.data)) for item in group]
        return await self._limits.room_for(sizes, group[0].asked.plan.domain)

    async def _put_group(
        self, group: Sequence[Item], before: asyncio.Future[Any] | None, arrival: GroupArrival | None
    ) -> list[BlobWriteResult]:
        async with nullcontext() if arrival is None else arrival:
            if len(group) == 1:
                if before is not None:
                    await asyncio.shield(before)
                return [await self._put_alone(group[0], arrival)]
            with self._operations.call("put_many"):
                size = sum(len(item.data) for item in group)
                if self._limits is not None:
                    await self._limits.pace(size)
                # Read ahead for the caller; what is put one by one is his own memory, and in use already.
                budget = self._parts.budget
                lease = await budget.lease(size, budget.for_puts)
                try:
                    results = await put_group(self._parts, group, before, arrival)
                finally:
                    lease.release()
        self._reporter.report(results)
        return results

    async def _put_alone(self, item: Item, arrival: GroupArrival | None) -> BlobWriteResult:
        if self._limits is None or arrival is None:
            return await self.put(item.data, item.asked)
        with self._operations.call("put"):
            await self._limits.pace(len(item.data))
            segments = bytes_segments(item.data, item.asked.chunker)
            result = await put_one(self._parts, segments, item.asked, arrival.alone(item.asked.plan.holder))
        self._reporter.report([result])
        return result

    async def aclose(self) -> None:
        """End the thread of small puts. Idempotent."""
        if self._small_puts is not None:
            await self._small_puts.aclose()
