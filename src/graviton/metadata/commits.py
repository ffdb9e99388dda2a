"""Pages, commit, delete and undelete as transactions: points 3 and 4 of docs/block-life.md.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage, page_end_bytes, sealed_page
from graviton.errors import Conflict
from graviton.metadata import sessions, totals
from graviton.metadata.rows import BLOBS, HOLDERS, PAGES, OwnerRow, decode_blob, encode_blob, u64
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import BlobCommit, BlobRecord, CommitResult, StoreTotals

__all__ = ["Prepared", "add_pages", "commit", "delete", "owner_state", "seal_some", "undelete", "visible"]


class Prepared(NamedTuple):
    """A commit whose pages are sealed: all that can be worked out before the transaction."""

    commit: BlobCommit
    sealed: Sequence[tuple[ManifestPage, bytes]]
    """The last pages, not yet written."""
    page_count: int
    block_count: int
    pages_digest: bytes


def page_key(owner: int, end: int) -> bytes:
    """Key of the page of `owner` whose last byte is `end - 1`."""
    return u64(owner) + page_end_bytes(end)


def add_pages(
    tx: Transaction, session: int, pages: Sequence[ManifestPage], confirm: Sequence[BlockKey], now_ns: int
) -> None:
    """Write unsealed pages of an open session and confirm claims. Raises Conflict."""
    row = sessions.load_open(tx, session)
    row, added = sessions.confirm(tx, session, row, confirm)
    row = row._replace(expires_at_ns=max(row.expires_at_ns, now_ns))
    sessions.save_owner(tx, session, row)
    totals.add(tx, row.domain, session, added)
    tx.put_many(PAGES, [(page_key(session, page.end), page.to_bytes()) for page in pages])


def seal_some(
    tx: Transaction, session: int, blob: BlobKey, after: bytes | None, limit: int
) -> list[tuple[ManifestPage, bytes, bytes]]:
    """Seal up to `limit` pages of an open session in order: (page, stored form, key) of each. Sealing a sealed page
    again changes nothing, so an interrupted commit can be repeated."""
    sessions.load_open(tx, session)
    done = []
    for key, data in list(tx.scan(PAGES, u64(session), after, limit)):
        page, sealed = sealed_page(data, blob)
        tx.put(PAGES, key, sealed)
        done.append((page, sealed, key))
    return done


def commit(tx: Transaction, prepared: Prepared, now_ns: int) -> CommitResult:
    """Make a blob visible, or merge into the one that is. Raises Conflict."""
    one = prepared.commit
    row = sessions.load_open(tx, one.session)
    row, added = sessions.confirm(tx, one.session, row, one.confirm)
    if row.unconfirmed:
        raise Conflict(
            f"{row.unconfirmed} blocks of session {one.session:x} are not confirmed",
            operation="commit",
            subject=one.key.text,
        )
    totals.add(tx, row.domain, one.session, added)
    existing = visible(tx, row.domain, one.key)
    if existing is not None:
        return _merge(tx, one, row._replace(state=OwnerState.DROPPED, changed_at_ns=now_ns), existing)
    tx.put_many(PAGES, [(page_key(one.session, page.end), data) for page, data in prepared.sealed])
    sessions.save_owner(tx, one.session, row._replace(state=OwnerState.COMMITTED, changed_at_ns=now_ns))
    record = BlobRecord(
        one.key,
        one.session,
        prepared.page_count,
        prepared.block_count,
        prepared.pages_digest,
        one.chunker,
        now_ns,
        one.attributes,
    )
    tx.put(BLOBS, row.domain + one.key.to_bytes(), encode_blob(record))
    tx.put(HOLDERS, _holder_key(one.session, one.holder), b"")
    totals.add(tx, row.domain, one.session, StoreTotals(blobs=1, logical_bytes=one.key.size))
    return CommitResult(record, created=True)


def _merge(tx: Transaction, one: BlobCommit, row: OwnerRow, existing: BlobRecord) -> CommitResult:
    sessions.save_owner(tx, one.session, row)
    said = BinaryAttributes(
        advertised=one.attributes.advertised
    )  # what is confirmed belongs to the manifest that stays
    record = existing._replace(attributes=existing.attributes.merge(said))
    if record.attributes != existing.attributes:
        tx.put(BLOBS, row.domain + one.key.to_bytes(), encode_blob(record))
    tx.put(HOLDERS, _holder_key(existing.owner, one.holder), b"")
    return CommitResult(record, created=False)


def visible(tx: ReadTransaction, domain: bytes, key: BlobKey) -> BlobRecord | None:
    """The record of a blob whose owner is committed, or None."""
    data = tx.get(BLOBS, domain + key.to_bytes())
    if data is None:
        return None
    record = decode_blob(key, data)
    return record if owner_state(tx, record.owner) is OwnerState.COMMITTED else None


def owner_state(tx: ReadTransaction, owner: int) -> OwnerState | None:
    """The state of an owner; None if it is gone."""
    row = sessions.load_owner(tx, owner)
    return None if row is None else row.state


def delete(tx: Transaction, domain: bytes, key: BlobKey, holder: str, now_ns: int) -> bool:
    """Take a holder away, and with the last one drop the owner; whether it held the blob."""
    record = visible(tx, domain, key)
    if record is None or not tx.delete(HOLDERS, _holder_key(record.owner, holder)):
        return False
    if next(iter(tx.scan(HOLDERS, u64(record.owner), None, 1)), None) is None:
        _turn(tx, record, OwnerState.DROPPED, now_ns)
        totals.add(tx, domain, record.owner, StoreTotals(blobs=-1, logical_bytes=-key.size))
    return True


def undelete(tx: Transaction, domain: bytes, key: BlobKey, holder: str, now_ns: int) -> bool:
    """Turn a dropped owner back; False if the blob is not deleted or is gone for good."""
    data = tx.get(BLOBS, domain + key.to_bytes())
    if data is None:
        return False
    record = decode_blob(key, data)
    if owner_state(tx, record.owner) is not OwnerState.DROPPED:
        return False
    _turn(tx, record, OwnerState.COMMITTED, now_ns)
    tx.put(HOLDERS, _holder_key(record.owner, holder), b"")
    totals.add(tx, domain, record.owner, StoreTotals(blobs=1, logical_bytes=key.size))
    return True


def forget_dropped(tx: Transaction, owner: int) -> bool:
    """Take away some claims and pages of an owner that was dropped the moment it was committed, because its blob was
    there already: nobody can ask for it back. Whether there is more to do."""
    row = sessions.load_owner(tx, owner)
    if row is None or row.state is not OwnerState.DROPPED:
        return False
    pages = [key for key, _ in tx.scan(PAGES, u64(owner), None, 16)]
    tx.delete_many(PAGES, pages)
    return sessions.drop_some_claims(tx, owner, row) or len(pages) == 16


def _turn(tx: Transaction, record: BlobRecord, state: OwnerState, now_ns: int) -> None:
    row = sessions.load_owner(tx, record.owner)
    assert row is not None, "a visible or deleted blob has an owner"
    sessions.save_owner(tx, record.owner, row._replace(state=state, changed_at_ns=now_ns))


def _holder_key(owner: int, holder: str) -> bytes:
    return u64(owner) + holder.encode()
