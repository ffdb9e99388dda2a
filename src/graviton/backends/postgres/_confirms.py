"""Confirming: blocks that are durable become stored, point 2 of docs/block-life.md, for a group of sessions at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.backends.postgres._keys import KEY_ORDER, block_key, columns, in_order
from graviton.backends.postgres._owners import LOCK_OWNERS, Owner, check_open
from graviton.backends.postgres._scripts import Last, Result, Script, Statement
from graviton.backends.postgres._totals import Delta, add_totals
from graviton.core.keys import BlockKey
from graviton.errors import InvalidInput
from graviton.metadata.rows import CONFIRMED, WRITES
from graviton.ports.block_index import BlockState
from graviton.ports.manifests import StoreTotals

__all__ = ["FIND_CLAIMS", "Held", "claims_of", "confirm", "find_claims", "store", "stored"]

FIND_CLAIMS = """
SELECT k.owner_id, b.id, b.algo, b.digest, b.size, r.kind
FROM unnest(%(owners)b::bigint[], %(algos)b::smallint[], %(digests)b::bytea[], %(sizes)b::bigint[])
    AS k(owner_id, algo, digest, size)
JOIN owners o ON o.id = k.owner_id
JOIN blocks b ON b.domain_id = o.domain_id AND b.algo = k.algo AND b.digest = k.digest AND b.size = k.size::int
JOIN refs r ON r.owner_id = o.id AND r.block_id = b.id
"""

_STORE = f"""
WITH wanted AS (
    SELECT b.id FROM blocks b WHERE b.id = ANY(%(blocks)b::bigint[]) ORDER BY {KEY_ORDER} FOR NO KEY UPDATE
), stored AS (
    UPDATE blocks b SET state = {BlockState.STORED.value} FROM wanted
    WHERE b.id = wanted.id AND b.state = {BlockState.PENDING.value}
    RETURNING b.domain_id, b.size
)
SELECT domain_id, count(*), sum(size)::bigint FROM stored GROUP BY domain_id
"""
"""Whoever made a block pending last: our bytes are durable under its name, and it has our claim."""

_CONFIRM_REFS = f"""
UPDATE refs SET kind = {CONFIRMED} WHERE owner_id = %(owner)b AND block_id = ANY(%(blocks)b::bigint[])
"""

_COUNT = """
UPDATE owners SET unconfirmed = unconfirmed - %(count)b::int, expires_at = %(now)b + lifetime WHERE id = %(owner)b
"""


class Held(NamedTuple):
    """A claim that is confirmed."""

    block: int
    to_write: bool


def find_claims(requests: Sequence[tuple[int, Sequence[BlockKey]]]) -> Statement:
    """The claims that the sessions say they have on the keys."""
    pairs = [(session, key) for session, keys in requests for key in in_order(keys)]
    return Statement(FIND_CLAIMS, {"owners": [session for session, _ in pairs]} | columns([key for _, key in pairs]))


def claims_of(
    requests: Sequence[tuple[int, Sequence[BlockKey]]], rows: Sequence[tuple[int, int, int, bytes, int, int]]
) -> dict[int, list[Held]]:
    """What `find_claims` found, by session. Raises InvalidInput for a key that its session has not claimed."""
    found = {
        (owner, block_key(algo, digest, size)): Held(id_, kind == WRITES)
        for owner, id_, algo, digest, size, kind in rows
    }
    held: dict[int, list[Held]] = {}
    for session, keys in requests:
        held[session] = claims = []
        for key in dict.fromkeys(keys):
            claim = found.get((session, key))
            if claim is None:
                raise InvalidInput(f"block {key} was not claimed by session {session:x}", subject=key.text)
            claims.append(claim)
    return held


def store(blocks: Sequence[int]) -> list[Statement]:
    """The statement that turns the records of written blocks to stored, if there are any; `stored` reads its result."""
    return [Statement(_STORE, {"blocks": list(blocks)})] if blocks else []


def stored(results: Sequence[Result]) -> list[Delta]:
    """What `store` adds to the totals."""
    return [
        Delta(domain, StoreTotals(blocks=count, stored_bytes=size))
        for result in results
        for domain, count, size in result.rows
    ]


def confirm(session: int, keys: Sequence[BlockKey], now_ns: int, also: Sequence[Statement] = ()) -> Script[Owner]:
    """Confirm claims of an open session, which stays open, and do `also`. Raises Conflict, InvalidInput."""
    requests = [(session, keys)]
    locked, found = yield [Statement(LOCK_OWNERS, {"owners": [session]}), find_claims(requests)]
    owner = check_open(session, locked.rows)
    written = [claim.block for claim in claims_of(requests, found.rows)[session] if claim.to_write]
    batch = [
        Statement(_CONFIRM_REFS, {"owner": session, "blocks": written}),
        Statement(_COUNT, {"owner": session, "count": len(written), "now": now_ns}),
        *also,
    ]
    if written:
        added = yield store(written)
        batch += add_totals(session, stored(added))
    yield Last(batch)
    return owner
