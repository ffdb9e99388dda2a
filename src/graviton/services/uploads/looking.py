"""What is told about uploads. Whoever looks first brings the ranges up to what the rows hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from graviton import errors
from graviton.core.ranges import RangeSet, Span
from graviton.metadata.upload_rows import UploadRow, UploadState
from graviton.ports.blobs import IngestStats
from graviton.ports.kv import ReadTransaction
from graviton.services.uploads import part_records, records
from graviton.services.uploads.background import is_unfinished, log_failure
from graviton.services.uploads.kit import Kit, range_locator
from graviton.services.uploads.values import ListedUploads, UploadId, UploadStatus

__all__ = ["Looking"]

_ROWS = 50
"""Rows listed per transaction."""


class Looking:
    """Looks at uploads, and changes nothing but ranges that lag behind."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def status(self, id: UploadId) -> UploadStatus:
        """An upload as it is. Raises NotFound."""
        row, ranges = await self.ranges(id)
        return self.status_of(id, row, ranges)

    async def told(self, id: UploadId) -> tuple[UploadRow, RangeSet]:
        """The row, and what is known of what arrived: all that this process has told the tracker, and what precedes the
        first gap. Unlike `ranges` it costs the same however many parts wait. Raises NotFound."""
        row = await self._kit.load(id)
        if row.state is UploadState.FAILED:
            return row, RangeSet()
        return row, (await self._kit.tracker.current(range_locator(id))).add(Span(0, row.offset))

    async def ranges(self, id: UploadId) -> tuple[UploadRow, RangeSet]:
        """The row, and what arrived. A crash between rows and ranges is repaired here, and only upwards, because what
        rows hold is durable. Raises NotFound."""
        row, held = await self._kit.kv.read(partial(_row_and_held, id=id))
        if row.state is UploadState.FAILED:
            return row, RangeSet()
        ranges = await self._kit.tracker.current(range_locator(id))
        if lag := list(held - ranges):
            ranges = await self._kit.tell(id, lag)
        return row, ranges

    @staticmethod
    def status_of(id: UploadId, row: UploadRow, ranges: RangeSet) -> UploadStatus:
        """What a row and ranges of one moment say."""
        gap = ranges.next_gap(0)
        return UploadStatus(
            id,
            UploadState.FINISHING if is_unfinished(row) else row.state,
            0 if gap is None else gap.start,
            row.length,
            ranges.covered_length,
            row.created_at_ns,
            row.expires_at_ns,
            row.wishes.metadata,
            row.wishes.is_partial,
            tuple(UploadId(one) for one in row.wishes.made_of),
            row.key if row.state is UploadState.DONE else None,
            row.created,
            records.failure(row, id),
            row.wishes.domain,
            IngestStats(row.key.size, *row.counts) if row.key is not None and row.state is UploadState.DONE else None,
        )

    async def page(self, after: UploadId | None, limit: int) -> ListedUploads:
        """Up to `limit` of them in the order of their ids, past those whose rows are damaged."""
        found: list[UploadStatus] = []
        unreadable: list[UploadId] = []
        while True:
            rows = await self._kit.kv.read(partial(records.load_all, after=after, limit=_ROWS))
            for id, data in rows:
                if len(found) + len(unreadable) == limit:
                    return ListedUploads(found, unreadable, after)
                after = id
                try:
                    if UploadRow.decode(data).state is not UploadState.GONE:
                        found.append(await self.status(id))
                except errors.NotFound:
                    pass  # it went meanwhile
                except errors.IntegrityError as error:
                    log_failure(f"upload {id} cannot be listed", error)
                    unreadable.append(id)
            if len(rows) < _ROWS:
                return ListedUploads(found, unreadable, None)

    async def list(self, after: UploadId | None) -> AsyncIterator[UploadStatus]:
        """All of them. Raises IntegrityError after everything else was yielded."""
        unreadable: list[UploadId] = []
        is_first = True
        while is_first or after is not None:
            is_first = False
            page = await self.page(after, _ROWS)
            for status in page.uploads:
                yield status
            unreadable += page.unreadable
            after = page.next
        if unreadable:
            others = f" and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
            raise errors.IntegrityError(
                f"the rows of upload {unreadable[0]}{others} cannot be read; all others are listed",
                operation="upload",
                subject=unreadable[0],
                hint="Terminate it and start it again; no blob depends on it.",
            )


def _row_and_held(tx: ReadTransaction, id: UploadId) -> tuple[UploadRow, RangeSet]:
    row = records.load(tx, id)
    return row, part_records.held(tx, id, row)
