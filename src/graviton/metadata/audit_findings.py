"""What the audit finds, and how it gets past rows that cannot be read or decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, TypeVar

from graviton.errors import IntegrityError
from graviton.metadata.owners import load_owner
from graviton.metadata.row_walk import Row
from graviton.metadata.rows import OWNERS, u64
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import ReadTransaction

__all__ = ["Finding", "Law", "decoded", "owner_state", "unreadable", "values"]

_T = TypeVar("_T")


class Law(Enum):
    """What a finding breaks; the values are shown and stable."""

    ROW = "row"
    """A row can be decoded."""
    TOTALS = "totals"
    """The kept totals are those of the visible blobs and stored blocks."""
    OWNER = "owner"
    """A blob and a claim have an owner."""
    HOLDER = "holder"
    """A visible blob has a holder."""
    PAGES = "pages"
    """The pages of a visible blob are sealed, cover it exactly and are those its record tells."""
    RECORD = "record"
    """A block of a visible blob, and of any claim, has a record, and is not condemned."""
    CLAIM = "claim"
    """The owner of a visible blob has a claim on each of its blocks."""


class Finding(NamedTuple):
    """One law broken at one place."""

    law: Law
    subject: str
    """Key text of the blob or block, or the name of a namespace or domain."""
    message: str


def unreadable(namespace: str, place: bytes, why: str) -> Finding:
    """The finding for a row that cannot be read or decoded."""
    return Finding(Law.ROW, namespace, f"{why} (key {place.hex()})")


def decoded(findings: list[Finding], namespace: str, row: Row, decode: Callable[[bytes], _T]) -> _T | None:
    """What `decode` makes of a row; None and a finding if it, or the row, cannot be read."""
    if row.value is None:
        findings.append(unreadable(namespace, row.key, "a row cannot be read"))
        return None
    try:
        return decode(row.value)
    except IntegrityError as error:
        findings.append(unreadable(namespace, row.key, str(error)))
        return None


def values(
    findings: list[Finding], tx: ReadTransaction, namespace: str, places: Sequence[bytes]
) -> dict[bytes, bytes | None]:
    """The values under `places`, None where there is none. What cannot be read is left out, and a finding."""
    try:
        return dict(zip(places, tx.get_many(namespace, places), strict=True))
    except IntegrityError:
        found: dict[bytes, bytes | None] = {}
        for place in places:
            try:
                found[place] = tx.get(namespace, place)
            except IntegrityError:
                findings.append(unreadable(namespace, place, "a row cannot be read"))
        return found


def owner_state(findings: list[Finding], tx: ReadTransaction, owner: int) -> OwnerState | None:
    """The state of an owner; None if it has none, or none that can be read."""
    try:
        row = load_owner(tx, owner)
    except IntegrityError as error:
        findings.append(unreadable(OWNERS, u64(owner), str(error)))
        return None
    return None if row is None else row.state
