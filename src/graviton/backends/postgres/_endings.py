"""Ends of sessions, and claims taken away: point 5 of docs/block-life.md, in SQL."""

from __future__ import annotations

from graviton.backends.postgres._keys import KEY_ORDER
from graviton.backends.postgres._owners import Owner, check_open, committed_keeps, lock_owners
from graviton.backends.postgres._scripts import Script, Statement
from graviton.ports.block_index import OwnerState

__all__ = ["drop_some_claims", "end_session", "forget_dropped"]

_END = f"UPDATE owners SET state = {OwnerState.ENDED.value}, changed_at = %(now)b WHERE id = %(owner)b"

_LOSING = "UPDATE owners SET losing_claims = true WHERE id = %(owner)b AND NOT losing_claims"

_DROP = f"""
WITH gone AS (
    DELETE FROM refs WHERE owner_id = %(owner)b
        AND block_id = ANY(ARRAY(SELECT block_id FROM refs WHERE owner_id = %(owner)b LIMIT %(limit)b))
    RETURNING block_id
), remembered AS (
    INSERT INTO candidates (block_id)
    SELECT b.id FROM blocks b WHERE b.id = ANY(ARRAY(SELECT block_id FROM gone)) ORDER BY {KEY_ORDER}
    ON CONFLICT (block_id) DO UPDATE SET block_id = EXCLUDED.block_id
)
SELECT count(*) FROM gone
"""
"""A candidate that is there already is locked even so, lest a collector that has just looked at it, and saw our claim,
takes it off the list: nobody would ever look at the block again."""

_FORGET_PAGES = """
DELETE FROM pages WHERE owner_id = %(owner)b
    AND end_offset = ANY(ARRAY(SELECT end_offset FROM pages WHERE owner_id = %(owner)b LIMIT %(limit)b))
"""

PAGES_AT_ONCE = 16
"""Pages removed per transaction, 2.4 MB."""


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
    (locked,) = yield [lock_owners([owner])]
    if not locked.rows:
        return 0
    found = Owner.of(locked.rows[0])
    if found.state not in (OwnerState.ENDED, OwnerState.DROPPED):
        raise committed_keeps(found)
    batch = [Statement(_LOSING, {"owner": owner})] if not found.losing_claims else []
    results = yield [*batch, Statement(_DROP, {"owner": owner, "limit": limit})]
    count: int = results[-1].rows[0][0]
    return count


def forget_dropped(owner: int, limit: int) -> Script[bool]:
    """Take some claims and pages away from an owner that a commit dropped: nobody can ask for them back. Whether there
    may be more."""
    dropped = yield from drop_some_claims(owner, limit)
    (pages,) = yield [Statement(_FORGET_PAGES, {"owner": owner, "limit": PAGES_AT_ONCE})]
    return dropped == limit or pages.changed == PAGES_AT_ONCE
