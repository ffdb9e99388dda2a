"""Reading one block the safe way: at its place, in the trash, at its place again, and only then is it damaged.

Point 9 of the protocol, docs/block-life.md. A block may be on its way to the trash or back while it is looked for, so
one look proves nothing. The record's generation is read before the looks that count: if the block is written anew
meanwhile, the mark does not stick.
"""

from __future__ import annotations

from contextlib import suppress

from graviton.core.clock import Clock
from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError, NotFound, PermissionDenied, StorageFull, Unavailable
from graviton.ports.block_index import BlockIndex, BlockRecord, BlockState
from graviton.ports.blocks import BlockStore
from graviton.ports.events import Event, EventKind, EventSink
from graviton.ports.metrics import MetricKeys, MetricsRegistry
from graviton.ports.reclaimer import BlockReclaimer

__all__ = ["BlockAccess"]


class BlockAccess:
    """Reads blocks for blobs and keeps the index honest about what it finds."""

    def __init__(
        self,
        blocks: BlockStore,
        reclaimer: BlockReclaimer | None,
        index: BlockIndex,
        metrics: MetricsRegistry,
        events: EventSink,
        clock: Clock,
    ) -> None:
        self._blocks, self._reclaimer, self._index = blocks, reclaimer, index
        self._metrics, self._events, self._clock = metrics, events, clock

    async def read(self, key: BlockKey, domain: str) -> bytes:
        """The verified bytes. Raises IntegrityError when the block is missing or wrong wherever it may lie."""
        try:
            return await self._blocks.get(key)
        except (NotFound, IntegrityError):
            return await self._look_everywhere(key, domain)

    async def _look_everywhere(self, key: BlockKey, domain: str) -> bytes:
        [record] = await self._index.records([key], domain)
        from_trash = await self._read_trash(key)
        if from_trash is not None:
            await self._note_wanted(key, record, domain)
            return from_trash
        try:
            return await self._blocks.get(key)
        except (NotFound, IntegrityError) as error:
            await self._note_damage(key, record, domain)
            what = "is missing" if isinstance(error, NotFound) else "does not match its digest"
            raise IntegrityError(f"block {key} {what}", operation="get", subject=key.text) from error

    async def _read_trash(self, key: BlockKey) -> bytes | None:
        if self._reclaimer is None:
            return None
        entries = [entry async for entry in self._reclaimer.trash_entries(key)]
        for entry in reversed(entries):
            try:
                return await self._reclaimer.read_trash(entry)
            except (NotFound, IntegrityError):
                continue
        return None

    async def _note_wanted(self, key: BlockKey, record: BlockRecord | None, domain: str) -> None:
        if record is not None and record.state is BlockState.STORED:
            with _best_effort():
                await self._index.mark_wanted_back(key, record.generation, domain)

    async def _note_damage(self, key: BlockKey, record: BlockRecord | None, domain: str) -> None:
        self._metrics.counter(MetricKeys.BLOCKS_DAMAGED)
        if record is None or record.state is not BlockState.STORED:
            return
        with _best_effort():
            if await self._index.mark_damaged(key, record.generation, domain):
                self._events.emit(Event(EventKind.BLOCK_DAMAGED, self._clock.now_ns(), key.text))


def _best_effort() -> suppress:
    """A read-only or busy metadata store keeps nobody from reading, nor from being told of the damage."""
    return suppress(PermissionDenied, Unavailable, StorageFull)
