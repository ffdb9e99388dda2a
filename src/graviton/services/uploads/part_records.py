"""The rows of what uploads hold, parts and pages, as decisions: see `records.py`, which has those of uploads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from graviton.core.manifests import ManifestPage
from graviton.core.ranges import RangeSet, Span
from graviton.errors import IntegrityError, LimitExceeded
from graviton.metadata.upload_rows import UPLOAD_PAGES, UPLOAD_PARTS, PartRow, UploadRow, UploadState, part_key
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.services.uploads import records
from graviton.services.uploads.values import UploadId

__all__ = ["MAX_PARTS", "Progress", "checkpoint", "held", "load_page", "parts_after", "register"]

MAX_PARTS = 10_000
"""Parts of one upload that wait, those of the undecided tail included: their rows are read together, in some 20 ms, and
a client that sends pieces of 1 MiB can be 10 GB ahead of its first gap."""


def parts_after(tx: ReadTransaction, id: UploadId, offset: int, limit: int | None = None) -> Iterator[PartRow]:
    """The parts that end after `offset`, in order."""
    key = bytes.fromhex(id)
    for place, data in tx.scan(UPLOAD_PARTS, key, part_key(key, offset), limit):
        yield PartRow.decode(place, data)


def load_page(tx: ReadTransaction, id: UploadId, offset: int) -> ManifestPage | None:
    """The page that holds the byte at `offset`, or None."""
    key = bytes.fromhex(id)
    found = next(iter(tx.scan(UPLOAD_PAGES, key, part_key(key, offset), 1)), None)
    return None if found is None else ManifestPage.from_bytes(found[1])


def held(tx: ReadTransaction, id: UploadId, row: UploadRow) -> RangeSet:
    """Every byte that the rows hold."""
    if row.state is UploadState.DONE or row.wishes.made_of:
        return RangeSet([Span(0, row.offset)])
    return RangeSet([Span(0, row.cut_to), *(part.span for part in parts_after(tx, id, row.cut_to))])


def _reached(tx: ReadTransaction, id: UploadId, end: int) -> int:
    """`end`, or the end of the parts that follow on it without a gap."""
    for part in parts_after(tx, id, end):
        if part.span.start > end:
            break
        end = part.span.end
    return end


class Progress(NamedTuple):
    """What a writer has done since its last checkpoint."""

    pages: Sequence[ManifestPage]
    """New pages, the short one at the end included."""
    cut_to: int
    end: int
    """Up to where it has bytes, cut or in `tail`."""
    tail: PartRow | None
    """A part for what is not cut; takes the place of every part it overlaps."""
    counts: tuple[int, int, int, int]
    """Added to those before."""


def checkpoint(
    tx: Transaction, id: UploadId, writer: str, now_ns: int, progress: Progress, **fields: Any
) -> tuple[UploadRow, list[bytes]]:
    """Remember what a writer has stored, and change `fields`; the row, and the objects of parts that are needed no
    longer. Raises NotFound, Overtaken, LimitExceeded beyond the length, which may have been declared meanwhile."""
    row = records.own(records.load(tx, id), id, writer)
    if row.length is not None and progress.end > row.length:
        raise records.beyond(id, row.length)
    key = bytes.fromhex(id)
    _put_pages(tx, key, row.cut_to, progress.pages)
    gone, added = [], []
    for part in list(parts_after(tx, id, row.cut_to)):
        if part.span.start >= progress.end:
            break
        if part.span.end <= progress.cut_to or (progress.tail and part.span.overlaps(progress.tail.span)):
            gone.append(part)
        elif part.span.end > row.offset:  # what a writer may bring is its own: nobody else registers that
            raise IntegrityError(f"parts of upload {id} lie where its writer writes", operation="upload", subject=id)
    if progress.tail is not None:
        added.append(progress.tail)
    tx.delete_many(UPLOAD_PARTS, [part_key(key, part.span.end) for part in gone])
    tx.put_many(UPLOAD_PARTS, [(part_key(key, part.span.end), part.encode()) for part in added])
    row = records.alive(row, now_ns)._replace(
        cut_to=progress.cut_to,
        offset=max(row.offset, _reached(tx, id, progress.end)),
        parts=row.parts - len(gone) + len(added),
        counts=tuple(map(sum, zip(row.counts, progress.counts, strict=True))),  # type: ignore[arg-type]
    )
    return records.save(tx, id, row._replace(**fields)), [part.name for part in gone]


def _put_pages(tx: Transaction, key: bytes, cut_to: int, pages: Sequence[ManifestPage]) -> None:
    if not pages:
        return
    if pages[0].offset < cut_to:  # it was there already, and shorter
        tx.delete(UPLOAD_PAGES, part_key(key, cut_to))
    tx.put_many(UPLOAD_PAGES, [(part_key(key, page.end), page.to_bytes()) for page in pages])


class Registered(NamedTuple):
    """What came of a part that somebody wants to be held."""

    row: UploadRow
    overlap: RangeSet
    """Bytes of it that were held already. Nothing was changed if they were not those that had been compared."""
    in_the_way: str
    """Token of the writer that may be bringing some of the same bytes; nothing was changed."""
    missing: RangeSet
    """The other bytes. One piece of them is held from now on; of several, nothing was changed."""


def register(tx: Transaction, id: UploadId, now_ns: int, part: PartRow, compared: RangeSet) -> Registered:
    """Hold those bytes of `part` that nobody holds. `compared` are those that were held, and found to be equal. Raises
    NotFound, Conflict if the upload takes no bytes any more, LimitExceeded."""
    row = records.receiving(records.load(tx, id), id)
    span = part.span
    if row.length is not None and span.end > row.length:
        raise records.beyond(id, row.length)
    overlap = _overlap(tx, id, row, span)
    missing = RangeSet([span]) - overlap
    if row.token and any(gap.start < row.reach and gap.end > row.offset for gap in missing):
        return Registered(row, overlap, row.token, missing)
    if overlap != compared or len(missing) != 1:
        return Registered(row, overlap, "", missing)
    if row.parts >= MAX_PARTS:
        raise LimitExceeded(
            f"{row.parts} parts of upload {id} wait for what is before them",
            operation="upload",
            subject=id,
            hint="Send what is missing first, or larger parts.",
        )
    (gap,) = missing
    trimmed = part._replace(span=gap, skip=part.skip + gap.start - span.start)
    tx.put(UPLOAD_PARTS, part_key(bytes.fromhex(id), gap.end), trimmed.encode())
    row = records.alive(row, now_ns)._replace(offset=_reached(tx, id, row.offset), parts=row.parts + 1)
    return Registered(records.save(tx, id, row), overlap, "", missing)


def _overlap(tx: ReadTransaction, id: UploadId, row: UploadRow, span: Span) -> RangeSet:
    """The bytes of `span` that are held."""
    found = [Span(0, row.cut_to)]
    for part in parts_after(tx, id, max(span.start, row.cut_to)):
        if part.span.start >= span.end:
            break
        found.append(part.span)
    return RangeSet(found) & RangeSet([span])
