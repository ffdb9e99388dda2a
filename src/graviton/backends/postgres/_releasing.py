"""Ends of sessions that expired, and what owners that are gone leave behind: points 5 and 6 of docs/block-life.md.

An owner loses its claims under its own lock; its row goes later, in a transaction that locks in the order of `delete`
and `undelete`: rows of blobs first, then owners. Between the two nothing can change: an owner that is losing its claims
stays what it is, nobody gives it any more, and no blob's row begins to name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.backends.postgres._arrays import Bigints
from graviton.backends.postgres._endings import Taken, take_some
from graviton.backends.postgres._keys import KEY_ORDER
from graviton.backends.postgres._owners import OWNER_COLUMNS, Owner
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.metadata.releasing import Due
from graviton.ports.block_index import OwnerState

__all__ = ["GONE_STATES", "Gone", "end_expired", "find_gone", "release_some", "remove_empty"]

GONE_STATES = (OwnerState.ENDED, OwnerState.DROPPED)

_EXPIRED_AT_ONCE = 100
"""Sessions ended per transaction: so many owners are locked at the same time."""

LOOK_ROWS = 1000
"""Owners looked at per statement: some milliseconds."""

_FOR_EVER = 2**63 - 1

_LOCK_EXPIRED = f"""
SELECT id FROM owners WHERE state = {OwnerState.OPEN.value} AND expires_at < %(now)b
ORDER BY expires_at LIMIT %(limit)b FOR NO KEY UPDATE SKIP LOCKED
"""
"""Whoever holds the lock of a session is just giving a sign of life."""

_END_EXPIRED = f"""
UPDATE owners SET state = {OwnerState.ENDED.value}, changed_at = %(now)b
WHERE id = ANY(%(owners)b::bigint[]) AND state = {OwnerState.OPEN.value} AND expires_at < %(now)b RETURNING id
"""


def _any_held(of: str) -> str:
    """Whether the owner `of` holds anything: joins with a column `held` each. Lateral, limited and in an order that an
    index has: see `block_of`."""
    return " ".join(
        "LEFT JOIN LATERAL"
        f" (SELECT true AS held FROM {table} WHERE owner_id = {of} ORDER BY {order} LIMIT 1) AS {table} ON true"
        for table, order in (("refs", "block_id"), ("pages", "end_offset"), ("holders", "name"))
    )


_HOLDS = "(refs.held IS NOT NULL OR pages.held IS NOT NULL OR holders.held IS NOT NULL)"


def _find_gone(state: OwnerState) -> str:
    """Owners in `state`, oldest change first, and whether there is something to be done with them."""
    return f"""
SELECT o.id, o.changed_at, o.changed_at <= %(over)b OR NOT o.losing_claims OR {_HOLDS}
FROM (
    SELECT id, changed_at, losing_claims FROM owners
    WHERE state = {state.value} AND changed_at <= %(until)b AND (changed_at, id) > (%(changed_at)b, %(id)b)
    ORDER BY changed_at, id LIMIT %(limit)b
) AS o {_any_held("o.id")}
"""


_FIND_GONE = {state: _find_gone(state) for state in GONE_STATES}

_LOCK_FREE = f"""
SELECT {OWNER_COLUMNS} FROM owners WHERE id = ANY(%(owners)b::bigint[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""
"""An owner that somebody else has locked is his: another collector's, or just brought back."""

_LOCK_NAMING = f"SELECT FROM blobs b WHERE b.owner_id = ANY(%(owners)b::bigint[]) ORDER BY {KEY_ORDER} FOR UPDATE"

_LOCK_OVER = f"""
SELECT id FROM owners WHERE id = ANY(%(owners)b::bigint[]) AND losing_claims AND changed_at <= %(over)b
    AND state IN ({", ".join(str(state.value) for state in GONE_STATES)})
ORDER BY id FOR UPDATE
"""

_EMPTY = f"SELECT o.id FROM unnest(%(owners)b::bigint[]) AS o(id) {_any_held('o.id')} WHERE NOT {_HOLDS}"

_REMOVE_BLOBS = "DELETE FROM blobs WHERE owner_id = ANY(%(owners)b::bigint[])"
"""A later put of a deleted blob has made its row name another owner."""

_REMOVE_OWNERS = "DELETE FROM owners WHERE id = ANY(%(owners)b::bigint[])"


class Gone(NamedTuple):
    """Some owners that are gone."""

    owners: list[int]
    """Those with something to be done."""
    position: tuple[int, int] | None
    """Where to go on: last change and number of the last one; None at the end."""


def end_expired(now_ns: int) -> Script[list[int]]:
    """End some sessions whose time is past: which; none if there are none but those that others have locked."""
    (locked,) = yield [Statement(_LOCK_EXPIRED, {"now": now_ns, "limit": _EXPIRED_AT_ONCE})]
    if not locked.rows:
        return []
    owners = Bigints(owner for (owner,) in locked.rows)
    (ended,) = yield Last([Statement(_END_EXPIRED, {"now": now_ns, "owners": owners})])
    return [owner for (owner,) in ended.rows]


def find_gone(state: OwnerState, due: Due, after: tuple[int, int]) -> Script[Gone]:
    """Owners in `state` that are due, after a position."""
    changed_at, number = after
    values = {
        "until": due.dropped_until_ns if state is OwnerState.DROPPED else _FOR_EVER,
        "over": due.over_until_ns,
        "changed_at": changed_at,
        "id": number,
        "limit": LOOK_ROWS,
    }
    (found,) = yield [Statement(_FIND_GONE[state], values)]
    rows = found.rows
    position = max((changed, owner) for owner, changed, _ in rows) if len(rows) == LOOK_ROWS else None
    return Gone([owner for owner, _, has_work in rows if has_work], position)


def release_some(owners: Sequence[int], due: Due) -> Script[Taken]:
    """Take away from owners what one transaction may, if they are still gone."""
    (locked,) = yield [Statement(_LOCK_FREE, {"owners": Bigints(owners)})]
    found = [Owner.of(row) for row in locked.rows]
    gone = [owner for owner in found if due.is_gone(owner.state, owner.changed_at_ns)]
    if not gone:
        return Taken(0, 0, False)
    return (yield from take_some(gone))


def remove_empty(owners: Sequence[int], due: Due) -> Script[int]:
    """Remove those of released owners that are over, and the rows of deleted blobs that name them; how many owners."""
    values = {"owners": Bigints(owners), "over": due.over_until_ns}
    _, locked = yield [Statement(_LOCK_NAMING, values), Statement(_LOCK_OVER, values)]
    if not locked.rows:
        return 0
    # Of one that was passed over before, because another collector was at it, there may be something left.
    (empty,) = yield [Statement(_EMPTY, {"owners": Bigints(owner for (owner,) in locked.rows)})]
    removed = {"owners": Bigints(owner for (owner,) in empty.rows)}
    yield Last([Statement(_REMOVE_BLOBS, removed), Statement(_REMOVE_OWNERS, removed)])
    return len(empty.rows)
