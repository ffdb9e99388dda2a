"""Rows that pass: of resumable uploads. Backups and copies of metadata leave them out, with the ranges of uploads.

What they tell of lies elsewhere, in parts that are in no backup, and lives for a day. docs/uploads.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from graviton.errors import IntegrityError
from graviton.metadata.range_tracker import decode_head
from graviton.metadata.rows import RANGE_HEADS, RANGES
from graviton.metadata.upload_rows import UPLOAD_NAMESPACES, UPLOAD_PLACE, UPLOADS, UploadRow, UploadState
from graviton.ports.kv import KeyValueStore, ReadTransaction

__all__ = ["PassingRows", "count_unfinished", "without_passing"]

_RANGES_OF_UPLOADS = "{}://{}/".format(*UPLOAD_PLACE)
_PLACE_BYTES = 32
_ROWS = 1000
"""Rows counted per transaction."""

_Rows = Sequence[tuple[bytes, bytes]]


class PassingRows:
    """Tells the rows of a pass over all namespaces in their order, in one snapshot."""

    def __init__(self) -> None:
        self._places: set[bytes] = set()

    def has(self, namespace: str, key: bytes, value: bytes) -> bool:
        """Whether a row is left out."""
        if namespace == RANGE_HEADS and _is_head(key, value):
            self._places.add(key)
            return True
        return namespace in UPLOAD_NAMESPACES or (namespace == RANGES and key[:_PLACE_BYTES] in self._places)


def without_passing(tx: ReadTransaction, namespace: str, rows: _Rows) -> list[tuple[bytes, bytes]]:
    """Those of some rows that are not left out."""
    if namespace in UPLOAD_NAMESPACES:
        return []
    if namespace == RANGE_HEADS:
        return [row for row in rows if not _is_head(*row)]
    if namespace == RANGES and rows:
        places = list(dict.fromkeys(key[:_PLACE_BYTES] for key, _ in rows))
        heads = zip(places, tx.get_many(RANGE_HEADS, places), strict=True)
        left_out = {place for place, head in heads if head is not None and _is_head(place, head)}
        return [row for row in rows if row[0][:_PLACE_BYTES] not in left_out]
    return list(rows)


def _is_head(place: bytes, value: bytes) -> bool:
    try:
        return decode_head(place, value)[1].startswith(_RANGES_OF_UPLOADS)
    except IntegrityError:
        return False  # kept as it is: whoever reads it is told


async def count_unfinished(kv: KeyValueStore) -> int:
    """Uploads that somebody may want to go on with."""
    count, after = 0, None
    while True:
        rows = await kv.read(partial(_rows_after, after=after))
        count += sum(map(_is_unfinished, rows))
        if len(rows) < _ROWS:
            return count
        after = rows[-1][0]


def _rows_after(tx: ReadTransaction, after: bytes | None) -> _Rows:
    return list(tx.scan(UPLOADS, b"", after, _ROWS))


def _is_unfinished(row: tuple[bytes, bytes]) -> bool:
    try:
        return UploadRow.decode(row[1]).state in (UploadState.RECEIVING, UploadState.FINISHING)
    except IntegrityError:
        return False
