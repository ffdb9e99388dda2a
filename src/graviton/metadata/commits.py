"""Pages, commit, delete and undelete as transactions: points 3 and 4 of docs/block-life.md.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage, page_end_bytes, sealed_page
from graviton.errors import Conflict
from graviton.metadata import confirms, totals
from graviton.metadata.event_rows import blob_committed, blob_deleted, tell
from graviton.metadata.manifest_checks import Answers, Suspect, sound_ones
from graviton.metadata.owners import check_open, load_open, load_owner, load_owners, save_owner
from graviton.metadata.preparing import Prepared
from graviton.metadata.row_walk import each_row
from graviton.metadata.rows import (
    BLOBS,
    DROPPED,
    HOLDERS,
    KEY_BYTES,
    OWNERS,
    PAGES,
    OwnerRow,
    decode_blob,
    encode_blob,
    u64,
)
from graviton.metadata.visibility import load_or_rebuild_owner, visible, visible_many
from graviton.ports.block_index import OwnerState
from graviton.ports.events import Event
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import BlobCommit, BlobRecord, CommitResult, StoreTotals

__all__ = [
    "Committed",
    "add_pages",
    "commit",
    "delete",
    "seal_some",
    "undelete",
]


def page_key(owner: int, end: int) -> bytes:
    """Key of the page of `owner` whose last byte is `end - 1`."""
    return u64(owner) + page_end_bytes(end)


def add_pages(
    tx: Transaction, session: int, pages: Sequence[ManifestPage], confirm: Sequence[BlockKey], now_ns: int
) -> None:
    """Write unsealed pages of an open session and confirm claims. Raises Conflict."""
    confirms.confirm_some(tx, session, confirm, now_ns)
    tx.put_many(PAGES, [(page_key(session, page.end), page.to_bytes()) for page in pages])


def seal_some(
    tx: Transaction, session: int, blob: BlobKey, after: bytes | None, limit: int
) -> list[tuple[ManifestPage, bytes, bytes]]:
    """Seal up to `limit` pages of an open session in order: (page, stored form, key) of each. Sealing a sealed page
    again changes nothing, so an interrupted commit can be repeated."""
    load_open(tx, session)
    done = []
    for key, data in list(tx.scan(PAGES, u64(session), after, limit)):
        page, sealed = sealed_page(data, blob)
        if sealed != data:
            tx.put(PAGES, key, sealed)
        done.append((page, sealed, key))
    return done


class _Changes:
    """What a group of commits writes, collected so that each namespace is written at once and in key order."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {PAGES: {}, OWNERS: {}, BLOBS: {}, HOLDERS: {}}
        self.added = totals.Sums()
        self.dropped: list[int] = []
        self.events: list[Event] = []

    def write(self, tx: Transaction, owner: int) -> None:
        for namespace, rows in self.rows.items():
            tx.put_many(namespace, sorted(rows.items()))
        self.added.write(tx, owner)
        tell(tx, self.events)


class Committed(NamedTuple):
    """What a group of commits did."""

    results: list[CommitResult]
    dropped: list[int]
    """Owners that no blob row names any more, so that nobody can bring them back: merged sessions, replaced owners."""


def commit(tx: Transaction, group: Sequence[Prepared], now_ns: int, answers: Answers) -> Committed:
    """Make blobs visible, or merge into those that are, as if one after the other. `answers` says of large manifests
    there whether they are sound. Raises Conflict, UncheckedManifestsError."""
    if not group:
        return Committed([], [])
    owners = _confirmed_owners(tx, group, changes := _Changes())
    places = [owner.domain + one.commit.key.to_bytes() for owner, one in zip(owners, group, strict=True)]
    there, lost = visible_many(tx, places, [one.commit.key for one in group])
    readable = {place: record for place, record in there.items() if record.owner not in lost}
    broken = lost | _broken(tx, group, places, readable, answers)
    results = []
    for one, owner, place in zip(group, owners, places, strict=True):
        existing = there.get(place)
        if existing is None:
            record = _create(changes, one, owner, place, now_ns)
        elif existing.owner in broken:
            record = _replace(tx, changes, one, owner, place, existing, now_ns)
        else:
            record = _merge(changes, one.commit, owner, place, existing, now_ns)
        if record.owner == one.commit.session:
            event = blob_committed(owner.domain, record.key.text, record.block_count, now_ns)
            changes.events.append(event)
        there[place] = record
        results.append(CommitResult(record, existing is None))
    changes.write(tx, group[0].commit.session)
    return Committed(results, changes.dropped)


def _broken(
    tx: ReadTransaction,
    group: Sequence[Prepared],
    places: Sequence[bytes],
    there: Mapping[bytes, BlobRecord],
    answers: Answers,
) -> set[int]:
    """The owners of visible blobs whose manifests must be replaced. Where the group brings the very same pages, it has
    confirmed the very same blocks just now."""
    same = {
        place
        for one, place in zip(group, places, strict=True)
        if place in there and there[place].pages_digest == one.pages_digest
    }
    suspects = [Suspect(record, place[:-KEY_BYTES], place not in same) for place, record in there.items()]
    sound = sound_ones(tx, suspects, answers)
    return {one.record.owner for one in suspects if one.question not in sound}


def _confirmed_owners(tx: Transaction, group: Sequence[Prepared], changes: _Changes) -> list[OwnerRow]:
    """The owners of a group, after their last blocks were confirmed. The claims' rows stay as they are: they say
    something about open owners only."""
    numbers = [one.commit.session for one in group]
    owners = []
    seen: set[int] = set()
    for number, row in zip(numbers, load_owners(tx, numbers), strict=True):
        if number in seen:
            raise Conflict(f"the session {number:x} cannot commit twice", operation="commit", subject=f"{number:x}")
        seen.add(number)
        owners.append(check_open(number, row))
    requests = [(one.commit.session, owner, one.commit.confirm) for one, owner in zip(group, owners, strict=True)]
    confirmed = confirms.confirm(tx, requests)
    for one, owner in zip(group, confirmed.owners, strict=True):
        if owner.unconfirmed:
            raise Conflict(
                f"{owner.unconfirmed} blocks of session {one.commit.session:x} are not confirmed",
                operation="commit",
                subject=one.commit.key.text,
            )
    changes.added = confirmed.added
    return confirmed.owners


def _create(changes: _Changes, one: Prepared, owner: OwnerRow, place: bytes, now_ns: int) -> BlobRecord:
    session, key = one.commit.session, one.commit.key
    record = BlobRecord(
        key,
        session,
        one.page_count,
        one.block_count,
        one.pages_digest,
        one.commit.chunker,
        now_ns,
        one.commit.attributes,
    )
    rows = changes.rows
    for page, sealed in one.sealed:
        rows[PAGES][page_key(session, page.end)] = sealed
    rows[OWNERS][u64(session)] = owner.turned(OwnerState.COMMITTED, now_ns).encode()
    rows[BLOBS][place] = encode_blob(record)
    rows[HOLDERS][_holder_key(session, one.commit.holder)] = b""
    changes.added.add(owner.domain, blobs=1, logical_bytes=key.size)
    return record


def _merge(
    changes: _Changes, one: BlobCommit, owner: OwnerRow, place: bytes, existing: BlobRecord, now_ns: int
) -> BlobRecord:
    changes.rows[OWNERS][u64(one.session)] = owner.turned(OwnerState.DROPPED, now_ns).encode()
    changes.dropped.append(one.session)
    said = BinaryAttributes(one.attributes.advertised)  # what is confirmed belongs to the manifest that stays
    record = existing._replace(attributes=existing.attributes.merge(said))
    if record.attributes != existing.attributes:
        changes.rows[BLOBS][place] = encode_blob(record)
    changes.rows[HOLDERS][_holder_key(existing.owner, one.holder)] = b""
    return record


def _replace(
    tx: Transaction,
    changes: _Changes,
    one: Prepared,
    owner: OwnerRow,
    place: bytes,
    existing: BlobRecord,
    now_ns: int,
) -> BlobRecord:
    """Repair: the new manifest takes the place of a damaged one, with the holders and attributes of the blob."""
    session = one.commit.session
    record = _create(changes, one, owner, place, now_ns)
    record = record._replace(attributes=existing.attributes.merge(record.attributes))
    changes.rows[BLOBS][place] = encode_blob(record)
    changes.added.add(owner.domain, blobs=-1, logical_bytes=-record.key.size)  # the blob was counted before
    holders = [row.key for row in each_row(tx, HOLDERS, u64(existing.owner))]
    tx.delete_many(HOLDERS, holders)
    changes.rows[HOLDERS].update({u64(session) + key[8:]: b"" for key in holders})
    old = load_or_rebuild_owner(tx, existing, owner.domain)
    changes.rows[OWNERS][u64(existing.owner)] = old.turned(OwnerState.DROPPED, now_ns).encode()
    changes.dropped.append(existing.owner)
    return record


def delete(tx: Transaction, domain: bytes, key: BlobKey, holder: str, now_ns: int) -> bool:
    """Take a holder away, and with the last one drop the owner; whether it held the blob."""
    record = visible(tx, domain, key)
    if record is None or not tx.delete(HOLDERS, _holder_key(record.owner, holder)):
        return False
    if next(iter(tx.scan(HOLDERS, u64(record.owner), None, 1)), None) is None:
        row = load_owner(tx, record.owner)
        assert row is not None, "a visible blob has an owner"
        save_owner(tx, record.owner, row.turned(OwnerState.DROPPED, now_ns))
        tx.put(DROPPED, u64(record.owner), domain + key.to_bytes())
        totals.add(tx, domain, record.owner, StoreTotals(blobs=-1, logical_bytes=-key.size))
        tell(tx, [blob_deleted(domain, key.text, now_ns)])
    return True


def undelete(tx: Transaction, domain: bytes, key: BlobKey, holder: str, now_ns: int) -> bool:
    """Turn a dropped owner back; False if the blob is not deleted or lost a claim since."""
    data = tx.get(BLOBS, domain + key.to_bytes())
    if data is None:
        return False
    record = decode_blob(key, data)
    owner = record.owner
    row = load_owner(tx, owner)
    if row is None or row.state is not OwnerState.DROPPED or row.losing_claims:
        return False
    save_owner(tx, owner, row.turned(OwnerState.COMMITTED, now_ns))
    tx.delete(DROPPED, u64(owner))
    tx.put(HOLDERS, _holder_key(owner, holder), b"")
    totals.add(tx, domain, owner, StoreTotals(blobs=1, logical_bytes=key.size))
    tell(tx, [blob_committed(domain, key.text, record.block_count, now_ns)])
    return True


def _holder_key(owner: int, holder: str) -> bytes:
    return u64(owner) + holder.encode()
