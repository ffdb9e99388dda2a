"""Delete and undelete as transactions: point 4 of docs/block-life.md, in SQL. The locks are those of `_commits.py`.

Done twice they may undo what somebody else did in between, so they tell the number of their transaction.
"""

from __future__ import annotations

from collections.abc import Collection

from graviton.backends.postgres._blob_rows import insert_holder, turned
from graviton.backends.postgres._events import Told, blob_committed, tell
from graviton.backends.postgres._keys import key_columns
from graviton.backends.postgres._outcomes import NUMBER
from graviton.backends.postgres._owners import Owner, lock_owners, owner_states
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres._totals import Delta, add_totals
from graviton.core.keys import BlobKey
from graviton.ports.block_index import OwnerState
from graviton.ports.events import EventKind
from graviton.ports.manifests import StoreTotals

__all__ = ["delete", "undelete"]

_LOCK_BLOB = f"""
SELECT {NUMBER} FROM blobs
WHERE domain_id = %(domain)b AND algo = %(algo)b AND digest = %(digest)b AND size = %(size)b FOR NO KEY UPDATE
"""
"""A row that the look finds after it and that is not locked was made in between: there was no blob yet."""

_SEE_OWNER = """
SELECT o.id, o.state, b.block_count FROM blobs b JOIN owners o ON o.id = b.owner_id
WHERE b.domain_id = %(domain)b AND b.algo = %(algo)b AND b.digest = %(digest)b AND b.size = %(size)b
"""

_DELETE_HOLDER = "DELETE FROM holders WHERE owner_id = %(owner)b AND name = %(holder)b"
_ANY_HOLDER = "SELECT FROM holders WHERE owner_id = %(owner)b LIMIT 1"


def delete(domain_id: int, key: BlobKey, holder: str, now_ns: int, kinds: Collection[EventKind]) -> Script[bool]:
    """Take a holder away, and with the last one drop the owner; whether it held the blob."""
    values = {"domain": domain_id} | key_columns(key)
    blob, seen = yield [Statement(_LOCK_BLOB, values), Statement(_SEE_OWNER, values)]
    if not blob.rows or owner_states[seen.rows[0][1]] is not OwnerState.COMMITTED:
        return False
    owner = seen.rows[0][0]
    gone, left = yield [
        Statement(_DELETE_HOLDER, {"owner": owner, "holder": holder}),
        Statement(_ANY_HOLDER, {"owner": owner}),
    ]
    if not gone.changed:
        return False
    batch: list[Statement] = []
    if not left.changed:
        delta = Delta(domain_id, StoreTotals(blobs=-1, logical_bytes=-key.size))
        event = Told(domain_id, EventKind.BLOB_DELETED, key.text)
        batch = [
            turned(owner, OwnerState.DROPPED, now_ns),
            *add_totals(owner, [delta]),
            *tell(now_ns, event, kinds),
        ]
    yield Last(batch, blob.rows[0][0])
    return True


def undelete(domain_id: int, key: BlobKey, holder: str, now_ns: int, kinds: Collection[EventKind]) -> Script[bool]:
    """Turn a dropped owner back; False if the blob is not deleted or lost a claim since. Whoever was told that it is
    gone is told that it is there again."""
    values = {"domain": domain_id} | key_columns(key)
    blob, seen = yield [Statement(_LOCK_BLOB, values), Statement(_SEE_OWNER, values)]
    if not blob.rows:
        return False
    # Who takes claims away locks the owner, not the blob.
    (locked,) = yield [lock_owners([seen.rows[0][0]])]
    owner = Owner.of(locked.rows[0])
    if owner.state is not OwnerState.DROPPED or owner.losing_claims:
        return False
    delta = Delta(domain_id, StoreTotals(blobs=1, logical_bytes=key.size))
    batch = [
        turned(owner.id, OwnerState.COMMITTED, now_ns),
        insert_holder(owner.id, holder),
        *add_totals(owner.id, [delta]),
        *tell(now_ns, blob_committed(domain_id, key.text, seen.rows[0][2]), kinds),
    ]
    yield Last(batch, blob.rows[0][0])
    return True
