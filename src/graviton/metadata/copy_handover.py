"""What a copy does with its source and with the marker beside the blocks: closing, giving back, passing on.

Never two metadata stores are written to, whoever is frozen where: docs/metadata-copy.md.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from graviton.core.clock import Clock
from graviton.errors import Conflict, GravitonError
from graviton.metadata.copy_marks import HalfCopy
from graviton.metadata.copy_plan import OPERATION, Place
from graviton.metadata.marker import MarkerStore, StoreMarker
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY
from graviton.metadata.read_only import READ_ONLY_KEY, ReadOnly, ReadOnlyState, read_only_row
from graviton.metadata.rows import STORE
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = ["Handover"]


class Handover:
    """From one metadata store to another, by one run."""

    def __init__(self, source: Place, target: Place, markers: MarkerStore, run: str, clock: Clock) -> None:
        self._source, self._target, self._markers = source, target, markers
        self._run, self._clock = run, clock
        self._closed_by: ReadOnly | None = None
        """The row of this run, which is in the source maybe."""
        self.source_row: ReadOnly | None = None
        """Why nobody may write to the source, as far as is known."""
        self.is_done = False
        """The target is in use, and the source knows it."""

    def check(self, tx: ReadTransaction) -> None:
        """Raises Conflict if the target is this run's no more. To be called in each transaction on it."""
        mark = tx.get(STORE, RESTORING_KEY)
        half = None if mark is None else HalfCopy.decode(mark)
        if half is None or half.run != self._run:
            raise Conflict(f"another run took over the copy into {self._target.where}", operation=OPERATION)

    async def close(self, metadata_id: str, found: ReadOnly | None) -> None:
        """Close the source for changes, unless another run has done so since it was `found`. Whoever was at a change
        has come to its end. `metadata_id` is that of the target."""
        place, settings, now = self._target.where, self._target.settings, self._clock.now_ns()
        row = ReadOnly(ReadOnlyState.MOVING, place, settings, metadata_id, self._run, now)

        def close(tx: Transaction) -> None:
            if read_only_row(tx) not in (found, row):
                raise self._lost()
            tx.put(STORE, READ_ONLY_KEY, row.encode())

        self.source_row = self._closed_by = row
        await self._source.kv.change_gate(close)

    async def recover(self) -> None:
        """Give back what this run has closed. What fails here is told by what failed before, and by `source_row`."""
        if self._closed_by is not None:
            with suppress(GravitonError):
                await self.give_back(self._closed_by)

    async def give_back(self, row: ReadOnly) -> None:
        """Let the source be written to again, and the blocks be its own, unless another run than that of `row` closed
        it. The target is half, and this run's."""
        left, marker = await self._source.kv.read(_row_and_marker)
        if left is None or left.run == row.run:
            await self._point_back(row.metadata_id, marker)
            if left is not None:
                left = await self._source.kv.change_gate(partial(_open, run=row.run))
        self.source_row = left

    async def _point_back(self, metadata_id: str, marker: bytes | None) -> None:
        """Let the blocks' marker be the source's, if it is the target's."""
        if marker is None:
            return
        target = StoreMarker.decode(marker, self._source.where)._replace(metadata_id=metadata_id)
        if await self._markers.read() == target.encode():
            await self._markers.replace(marker)

    async def pass_on(self, marker: StoreMarker, *, is_gated: bool) -> None:
        """Blocks, target, source, in this order. `is_gated`: the target was retired before."""
        try:
            await self._point_blocks(marker)
        except BaseException:
            await self.recover()
            raise
        try:
            await self._join(marker.encode(), is_gated)
            await self.retire(marker.metadata_id)
        except GravitonError:
            with suppress(GravitonError):  # perhaps it was given up
                self.source_row = await self._source.kv.read(read_only_row)
            raise

    async def _join(self, data: bytes, is_gated: bool) -> None:
        """Put the target in use: this is the moment."""

        def join(tx: Transaction) -> None:
            if tx.get(STORE, MARKER_KEY) == data:
                return  # done before, and the reply was lost
            self.check(tx)
            tx.delete_many(STORE, [RESTORING_KEY, READ_ONLY_KEY])
            tx.put(STORE, MARKER_KEY, data)

        await (self._target.kv.change_gate(join) if is_gated else self._target.kv.transact(join))

    async def _point_blocks(self, marker: StoreMarker) -> None:
        """Let the blocks' marker name the target, if it names nobody but the source: hours have passed since it was
        looked at."""
        source_id = await self._check_source()
        await self._target.kv.read(self.check)
        data, where = await self._markers.read(), self._markers.where
        if data is None:
            raise _conflict(f"the store marker at {where} is gone", "Check the folder or bucket: is it mounted?")
        found = StoreMarker.decode(data, where)
        if found == marker:
            return
        if found.metadata_id != source_id:
            text = f"the blocks at {where} belong to other metadata by now, {found.metadata_id}"
            raise _conflict(text, "Use that, or run `graviton store adopt` to say what belongs together.")
        await self._markers.replace(marker.encode())
        # Frozen right before it wrote, it may have written over what somebody said meanwhile who has opened the source.
        await self._check_source()

    async def _check_source(self) -> str:
        """The source's own metadata id. Raises Conflict unless this run has closed it."""
        row, marker = await self._source.kv.read(_row_and_marker)
        if row is None or row.run != self._run or marker is None:
            raise self._lost()
        return StoreMarker.decode(marker, self._source.where).metadata_id

    async def retire(self, metadata_id: str) -> None:
        """Tell the source that the target is in use."""
        now = self._clock.now_ns()

        def retire(tx: Transaction) -> ReadOnly:
            row = read_only_row(tx)
            if row is None or row.metadata_id != metadata_id:
                raise self._lost()
            if row.state is not ReadOnlyState.MOVED:
                row = row._replace(state=ReadOnlyState.MOVED, since_ns=now)
                tx.put(STORE, READ_ONLY_KEY, row.encode())
            return row

        self.source_row = await self._source.kv.change_gate(retire)
        self.is_done = True

    def _lost(self) -> Conflict:
        return _conflict(f"another run closed or opened the metadata at {self._source.where}", "")


def _conflict(text: str, hint: str) -> Conflict:
    return Conflict(text, operation=OPERATION, hint=hint)


def _row_and_marker(tx: ReadTransaction) -> tuple[ReadOnly | None, bytes | None]:
    return read_only_row(tx), tx.get(STORE, MARKER_KEY)


def _open(tx: Transaction, run: str) -> ReadOnly | None:
    """Take the row away if it is of that run; the one that is left."""
    row = read_only_row(tx)
    if row is None or row.state is not ReadOnlyState.MOVING or row.run != run:
        return row
    tx.delete(STORE, READ_ONLY_KEY)
    return None
