"""Ends of sessions that expired, and what owners that are gone leave behind: points 5 and 6 of docs/block-life.md.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again. Nothing tells
which owners are gone, so a collector reads the rows of all, a thousand per snapshot: an index would cost every put.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.metadata.owners import load_owner, save_owner
from graviton.metadata.row_walk import read_rows
from graviton.metadata.rows import (
    BLOBS,
    CLAIMS,
    DROPPED,
    HOLDERS,
    OWNERS,
    PAGES,
    OwnerRow,
    blob_key_of,
    decode_blob,
    u64,
)
from graviton.metadata.sessions import MAX_DROP, drop_some_claims
from graviton.ports.block_index import OwnerState, Released
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = [
    "Due",
    "Found",
    "end_if_expired",
    "find_expired",
    "find_gone",
    "forget_dropped",
    "release_some",
]

MAX_PAGES = 16
"""Pages removed per transaction, 2.4 MB."""

_LOOK_ROWS = 1000
"""Owners looked at per snapshot: some milliseconds."""


class Found(NamedTuple):
    """Owners with something to be done, and where to go on; None at the end."""

    owners: list[int]
    position: bytes | None


class Due(NamedTuple):
    """Since when an owner must have been gone. Both times stay the same for a whole pass."""

    dropped_until_ns: int
    """An owner dropped later may still be asked back."""
    over_until_ns: int
    """The row of an owner changed later is still needed by those whose reply was lost."""

    def is_gone(self, state: OwnerState, changed_at_ns: int) -> bool:
        """Whether everything that an owner holds may be taken away."""
        return state is OwnerState.ENDED or (state is OwnerState.DROPPED and changed_at_ns <= self.dropped_until_ns)


def find_expired(tx: ReadTransaction, after: bytes | None, now_ns: int) -> Found:
    """The open sessions among some owners whose time is past."""
    rows = [(key, OwnerRow.decode(data)) for key, data in tx.scan(OWNERS, b"", after, _LOOK_ROWS)]
    return _found(rows, [key for key, row in rows if _is_expired(row, now_ns)])


def end_if_expired(tx: Transaction, session: int, now_ns: int) -> bool:
    """Turn a session to ended, unless it has committed or given a sign of life meanwhile; whether it was done."""
    row = load_owner(tx, session)
    if row is None or not _is_expired(row, now_ns):
        return False
    save_owner(tx, session, row.turned(OwnerState.ENDED, now_ns))
    return True


def _is_expired(row: OwnerRow, now_ns: int) -> bool:
    return row.state is OwnerState.OPEN and row.expires_at_ns < now_ns


def find_gone(tx: ReadTransaction, after: bytes | None, due: Due) -> Found:
    """Those of some owners that are gone, and either hold something or are to be removed."""
    rows = [(key, OwnerRow.decode(data)) for key, data in tx.scan(OWNERS, b"", after, _LOOK_ROWS)]
    return _found(
        rows, [key for key, row in rows if due.is_gone(row.state, row.changed_at_ns) and _has_work(tx, key, row, due)]
    )


def _has_work(tx: ReadTransaction, key: bytes, row: OwnerRow, due: Due) -> bool:
    if row.changed_at_ns <= due.over_until_ns or not row.losing_claims or row.first_claims:
        return True
    return any(read_rows(tx, namespace, key, None, 1) for namespace in (CLAIMS, PAGES, HOLDERS))


def _found(rows: Sequence[tuple[bytes, OwnerRow]], keys: Sequence[bytes]) -> Found:
    position = rows[-1][0] if len(rows) == _LOOK_ROWS else None
    return Found([int.from_bytes(key, "big") for key in keys], position)


def release_some(tx: Transaction, owners: Sequence[int], due: Due) -> tuple[Released, list[int]]:
    """Take some of what owners hold away if they are still gone, and remove those that are over; what was done, and
    the owners that are left for another transaction."""
    room = _Room()
    removed, left = 0, list(owners)
    while left and not room.is_full:
        row = load_owner(tx, left[0])
        if row is not None and due.is_gone(row.state, row.changed_at_ns):
            if not _take_some(tx, left[0], room):
                break
            if row.changed_at_ns <= due.over_until_ns:
                _remove(tx, left[0])
                removed += 1
        del left[0]
    return Released(MAX_DROP - room.claims, MAX_PAGES - room.pages, removed), left


def forget_dropped(tx: Transaction, owners: Sequence[int]) -> list[int]:
    """Take claims and pages away from owners that a commit dropped: nobody can ask for them back. The owners that are
    left for another transaction."""
    room = _Room()
    left = list(owners)
    while left and not room.is_full and _take_some(tx, left[0], room):
        del left[0]
    return left


class _Room:
    """What one transaction may still take away."""

    def __init__(self) -> None:
        self.claims = MAX_DROP
        self.pages = MAX_PAGES
        self.holders = MAX_DROP

    @property
    def is_full(self) -> bool:
        return not (self.claims and self.pages and self.holders)


def _take_some(tx: Transaction, owner: int, room: _Room) -> bool:
    """Take away from a dropped or ended owner what there is room for; whether nothing is left."""
    # A damaged page is why some of them were dropped.
    pages = [row.key for row in read_rows(tx, PAGES, u64(owner), None, room.pages)]
    tx.delete_many(PAGES, pages)
    room.pages -= len(pages)
    holders = [row.key for row in read_rows(tx, HOLDERS, u64(owner), None, room.holders)]
    tx.delete_many(HOLDERS, holders)
    room.holders -= len(holders)
    room.claims -= drop_some_claims(tx, owner, room.claims)
    return not room.is_full


def _remove(tx: Transaction, owner: int) -> None:
    """Remove an owner that holds nothing, and the row of the deleted blob that names it. A later put of the blob makes
    its row name another owner."""
    place = tx.get(DROPPED, u64(owner))
    if place is not None:
        data = tx.get(BLOBS, place)
        if data is not None and decode_blob(blob_key_of(place), data).owner == owner:
            tx.delete(BLOBS, place)
        tx.delete(DROPPED, u64(owner))
    tx.delete(OWNERS, u64(owner))
