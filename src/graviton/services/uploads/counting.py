"""How many uploads are open: kept by the transactions that begin and end them, and bounded.

What a count may have missed (a row that could not be read when it went, a program that does not count) the sweeper puts
right, which looks at every row anyway.
"""

from __future__ import annotations

from typing import Final

from graviton.errors import IntegrityError, TooManyRequests
from graviton.metadata.rows import u64
from graviton.metadata.upload_rows import UPLOAD_COUNTS, UploadRow
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = ["DEFAULT_MAX_OPEN", "closed", "count", "opened", "recounted"]

DEFAULT_MAX_OPEN: Final = 10_000
"""Each may hold a block that waits (16 MiB) and some rows, and the sweeper looks at all of them every minute, which
takes a second."""

_RETRY_SECONDS: Final = 60.0
"""The sweeper frees what has expired as often."""

_KEY: Final = b"open"


def count(tx: ReadTransaction) -> int:
    """Uploads that take bytes or are being finished. Raises IntegrityError."""
    data = tx.get(UPLOAD_COUNTS, _KEY)
    if data is None:
        return 0
    if len(data) != 8:
        raise IntegrityError(f"a row of {UPLOAD_COUNTS!r} is damaged", operation="upload", subject=UPLOAD_COUNTS)
    return int.from_bytes(data, "big")


def opened(tx: Transaction, most: int) -> None:
    """One more. Raises TooManyRequests if there are `most` already."""
    there = _readable(tx)
    if there >= most:
        raise TooManyRequests(
            f"{there} uploads are not finished, and there may be {most}",
            operation="upload",
            subject="uploads",
            hint="Finish or terminate some, or wait until they expire. The limit is GRAVITON_UPLOAD_MAX_OPEN.",
            retry_after_seconds=_RETRY_SECONDS,
        )
    _put(tx, there + 1)


def closed(tx: Transaction, row: UploadRow) -> None:
    """An upload that was `row` until now is not open any more."""
    if row.state.is_open:
        _put(tx, max(0, _readable(tx) - 1))


def recounted(tx: Transaction, before: int | None, found: int) -> None:
    """Somebody has looked at all rows and found so many, since when nothing has changed as far as one can see: `before`
    is what was counted when he began, None if that could not be read."""
    if before is None or _readable(tx) == before:
        _put(tx, found)


def _readable(tx: ReadTransaction) -> int:
    """The count; of one that is damaged nothing is left, and the sweeper counts anew."""
    try:
        return count(tx)
    except IntegrityError:
        return 0


def _put(tx: Transaction, number: int) -> None:
    if number:
        tx.put(UPLOAD_COUNTS, _KEY, u64(number))
    else:
        tx.delete(UPLOAD_COUNTS, _KEY)
