"""Ends of sessions, and claims taken away: point 5 of docs/block-life.md, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.backends.postgres._arrays import Bigints
from graviton.backends.postgres._keys import KEY_ORDER
from graviton.backends.postgres._owners import Owner, check_open, committed_keeps, lock_owners
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.metadata.releasing import MAX_PAGES
from graviton.metadata.sessions import MAX_DROP
from graviton.ports.block_index import OwnerState

__all__ = ["Taken", "drop_some_claims", "end_session", "forget_dropped", "take_some"]

_END = f"UPDATE owners SET state = {OwnerState.ENDED.value}, changed_at = %(now)b WHERE id = %(owner)b"

_LOSING = "UPDATE owners SET losing_claims = true WHERE id = ANY(%(owners)b::bigint[]) AND NOT losing_claims"


def _take(table: str, order: str, rest: str) -> str:
    """Remove up to `limit` rows of a table that owners hold. Their owners are locked, so nobody else touches the rows,
    and they stay where they were found. In an order that an index has: see `block_of`."""
    return f"""
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT t.place FROM unnest(%(owners)b::bigint[]) AS o(id)
    CROSS JOIN LATERAL (
        SELECT ctid AS place FROM {table} WHERE owner_id = o.id ORDER BY {order} LIMIT %(limit)b
    ) AS t LIMIT %(limit)b
)) {rest}"""


_DROP = f"""
WITH gone AS ({_take("refs", "block_id", "RETURNING block_id")}
), remembered AS (
    INSERT INTO candidates (block_id)
    SELECT b.id FROM blocks b WHERE b.id = ANY(ARRAY(SELECT block_id FROM gone)) ORDER BY {KEY_ORDER}
    ON CONFLICT (block_id) DO UPDATE SET block_id = EXCLUDED.block_id
)
SELECT count(*) FROM gone
"""
"""A candidate that is there already is locked even so, lest a collector that has just looked at it, and saw our claim,
takes it off the list: nobody would ever look at the block again."""

# While these tables are small the planner would read them whole, and keep that plan; that they have few rows by owner
# leaves it the index. (With `refs` this would be the wrong way: an owner may have millions.)
_OF_OWNERS = "AND owner_id = ANY(%(owners)b::bigint[])"
_TAKE_PAGES = _take("pages", "end_offset", _OF_OWNERS)
_TAKE_HOLDERS = _take("holders", "name", _OF_OWNERS)


class Taken(NamedTuple):
    """What was taken away from owners."""

    claims: int
    pages: int
    more: bool
    """There may be more."""


def end_session(session: int, now_ns: int) -> Script[bool]:
    """Turn an open session to ended; whether it may have claims to be dropped. Raises Conflict for a committed one."""
    (locked,) = yield [lock_owners([session])]
    if not locked.rows:
        return False
    if Owner.of(locked.rows[0]).state is not OwnerState.ENDED:
        check_open(session, locked.rows)
        yield [Statement(_END, {"owner": session, "now": now_ns})]
    return True


def drop_some_claims(owner: int, limit: int) -> Script[int]:
    """Take up to `limit` claims of an ended or dropped owner away and remember their blocks as candidates of garbage
    collection; how many. Fewer than `limit`: none is left. A dropped owner that lost a claim cannot be turned back.
    Raises Conflict for an owner whose claims are needed."""
    found = yield from _lock_gone(owner)
    if found is None:
        return 0
    values = {"owners": Bigints([owner]), "limit": limit}
    batch = [Statement(_LOSING, values)] if not found.losing_claims else []
    results = yield [*batch, Statement(_DROP, values)]
    count: int = results[-1].rows[0][0]
    return count


def _lock_gone(owner: int) -> Script[Owner | None]:
    (locked,) = yield [lock_owners([owner])]
    if not locked.rows:
        return None
    found = Owner.of(locked.rows[0])
    if found.state not in (OwnerState.ENDED, OwnerState.DROPPED):
        raise committed_keeps(found)
    return found


def forget_dropped(owner: int) -> Script[bool]:
    """Take some claims and pages away from an owner that a commit dropped: nobody can ask for them back. Whether there
    may be more."""
    found = yield from _lock_gone(owner)
    return found is not None and (yield from take_some([found])).more


def take_some(owners: Sequence[Owner]) -> Script[Taken]:
    """Take away from locked owners, which are ended or dropped, what one transaction may. The last statements of a
    script."""
    numbers = Bigints(owner.id for owner in owners)
    losing = [] if all(owner.losing_claims for owner in owners) else [Statement(_LOSING, {"owners": numbers})]
    batch = [
        *losing,
        Statement(_DROP, {"owners": numbers, "limit": MAX_DROP}),
        Statement(_TAKE_PAGES, {"owners": numbers, "limit": MAX_PAGES}),
        Statement(_TAKE_HOLDERS, {"owners": numbers, "limit": MAX_DROP}),
    ]
    *_, dropped, pages, holders = yield Last(batch)
    claims: int = dropped.rows[0][0]
    more = claims == MAX_DROP or pages.changed == MAX_PAGES or holders.changed == MAX_DROP
    return Taken(claims, pages.changed, more)
