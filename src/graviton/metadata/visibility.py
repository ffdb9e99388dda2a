"""Which blobs are visible, also where rows that say so are damaged.

A blob is visible while the owner that its row names is committed. If the owner's row cannot be read, the holders tell:
the last one's delete is what drops an owner, so an owner with a holder was committed, and one without was dropped. The
blob then counts as visible and *lost*: nobody can read it, and the next put of its bytes takes its place, with its
holders and attributes, as over a damaged page. If the blob's own row cannot be read, nothing tells which owner was its,
so nobody may take its place: others may hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestPage
from graviton.errors import IntegrityError
from graviton.metadata.owners import load_owner, load_owners
from graviton.metadata.row_walk import read_rows
from graviton.metadata.rows import (
    BLOBS,
    CLAIMS,
    HOLDERS,
    PAGES,
    RELIES,
    OwnerRow,
    decode_blob,
    u64,
)
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import ReadTransaction
from graviton.ports.manifests import BlobRecord

__all__ = ["Visible", "committed_owners", "load_or_rebuild_owner", "visible", "visible_each", "visible_many"]

_PUT_AGAIN = "Put the same file again: that repairs the blob."


class Visible(NamedTuple):
    """The visible ones of some blobs."""

    records: dict[bytes, BlobRecord]
    """By their key in the namespace `blobs`."""
    lost_owners: set[int]
    """Owners of some of them, whose rows cannot be read."""


def visible_many(tx: ReadTransaction, places: Sequence[bytes], keys: Sequence[BlobKey]) -> Visible:
    """The visible blobs among `keys`, which lie at `places` in the namespace `blobs`. Raises IntegrityError naming a
    blob whose own row is damaged."""
    records = _records(tx, places, keys)
    committed, lost = committed_owners(tx, [record.owner for record in records.values()])
    return Visible({place: record for place, record in records.items() if record.owner in committed | lost}, lost)


def _records(tx: ReadTransaction, places: Sequence[bytes], keys: Sequence[BlobKey]) -> dict[bytes, BlobRecord]:
    try:
        rows = zip(places, keys, tx.get_many(BLOBS, places), strict=True)
        return {place: decode_blob(key, data) for place, key, data in rows if data is not None}
    except IntegrityError:
        return {
            place: record
            for place, key in zip(places, keys, strict=True)
            if (record := _record(tx, place, key)) is not None
        }


def _record(tx: ReadTransaction, place: bytes, key: BlobKey) -> BlobRecord | None:
    try:
        data = tx.get(BLOBS, place)
        return None if data is None else decode_blob(key, data)
    except IntegrityError as error:
        raise IntegrityError(
            f"blob {key}: its record is damaged, and with it who else holds the blob: {error}",
            subject=key.text,
            hint="Restore the metadata from a backup (graviton meta restore); other blobs are not affected.",
        ) from error


def committed_owners(tx: ReadTransaction, owners: Sequence[int]) -> tuple[set[int], set[int]]:
    """Which of `owners` are committed, and which of those with unreadable rows were."""
    try:
        rows = zip(owners, load_owners(tx, owners), strict=True)
        return {owner for owner, row in rows if row is not None and row.state is OwnerState.COMMITTED}, set()
    except IntegrityError:
        committed, lost = set(), set()
        for owner in owners:
            try:
                row = load_owner(tx, owner)
            except IntegrityError:
                if read_rows(tx, HOLDERS, u64(owner), None, 1):
                    lost.add(owner)
                continue
            if row is not None and row.state is OwnerState.COMMITTED:
                committed.add(owner)
        return committed, lost


def visible(tx: ReadTransaction, domain: bytes, key: BlobKey) -> BlobRecord | None:
    """The record of a blob whose owner is committed, or None. Raises IntegrityError naming a blob of which that, or
    more, cannot be read."""
    return visible_each(tx, domain, [key])[0]


def visible_each(tx: ReadTransaction, domain: bytes, keys: Sequence[BlobKey]) -> list[BlobRecord | None]:
    """The same for each of several. Raises for the first of them."""
    places = [domain + key.to_bytes() for key in keys]
    records, lost = visible_many(tx, places, keys)
    for record in records.values() if lost else ():
        if record.owner in lost:
            raise IntegrityError(
                f"blob {record.key}: the row of its owner is damaged",
                operation="get",
                subject=record.key.text,
                hint=_PUT_AGAIN,
            )
    return [records.get(place) for place in places]


def load_or_rebuild_owner(tx: ReadTransaction, record: BlobRecord, domain: bytes) -> OwnerRow:
    """The row of the owner of a visible blob. One that cannot be read is made up so that everything it holds can be
    taken away: claims that lay in the row itself are those of the manifest's blocks."""
    try:
        row = load_owner(tx, record.owner)
    except IntegrityError:
        claims = b"" if read_rows(tx, CLAIMS, u64(record.owner), None, 1) else _claims_of_pages(tx, record)
        return OwnerRow(OwnerState.COMMITTED, 0, 0, 0, 0, domain, claims)
    assert row is not None, "a visible blob has an owner"
    return row


def _claims_of_pages(tx: ReadTransaction, record: BlobRecord) -> bytes:
    """First claims on the blocks of a small manifest. If it is damaged too, its claims stay, and keep their blocks."""
    for row in read_rows(tx, PAGES, u64(record.owner), None, 1):
        try:
            keys = ManifestPage.open(row.value or b"", record.key).keys
        except IntegrityError:
            return b""
        return b"".join([bytes((RELIES,)) + key.to_bytes() for key in dict.fromkeys(keys)])
    return b""
