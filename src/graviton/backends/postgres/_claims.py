"""Sessions and claims as transactions: points 1 and 5 of docs/block-life.md, in SQL.

What keeps claims and a collector apart is the foreign key from `refs` to `blocks`: to insert a claim the server locks
the block's row FOR KEY SHARE, and whoever condemns locks it FOR UPDATE. So the claim comes first, and the look at the
state after it, in a statement of its own that sees what a lock was waited for. Claims of the same block do not wait for
each other unless they change its state.

Every transaction locks in one order: its owner, then new blocks, then blocks it claims, then blocks whose state it
changes, each in the order of keys. A collector locks candidates, for which it does not wait, then blocks in the same
order, and no owner afterwards; who takes claims away locks the owner, then candidates, and waits for no block. So there
is no cycle of waiting; should one come into being elsewhere, the server ends one of the transactions and it begins
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._arrays import Bigints, Integers, Smallints
from graviton.backends.postgres._keys import KEY_ARRAYS, KEY_ORDER, block_key, block_of, columns, in_order
from graviton.backends.postgres._owners import check_open, lock_owners
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres.errors import RacedError
from graviton.core.keys import BlockKey
from graviton.metadata.owners import drawn_owner
from graviton.metadata.rows import RELIES, WRITES
from graviton.ports.block_index import BlockState, Claim, OpenedSession, OwnerState

__all__ = ["FIND", "claim_more", "open_sessions"]

FIND = f"""
SELECT b.id, b.algo, b.digest, b.size, b.state, r.kind
FROM {KEY_ARRAYS} AS k(algo, digest, size)
CROSS JOIN {block_of("%(domain)b")} AS b
LEFT JOIN LATERAL (
    SELECT kind FROM refs WHERE owner_id = %(owner)b AND block_id = b.id LIMIT 1
) AS r ON true
"""
"""The records of keys, and how `owner` holds them; 0 is nobody."""

_INSERT_BLOCKS = f"""
INSERT INTO blocks (domain_id, algo, digest, size, state, generation)
SELECT %(domain)b, k.algo, k.digest, k.size::int, {BlockState.PENDING.value}, 1
FROM {KEY_ARRAYS} AS k(algo, digest, size)
ON CONFLICT DO NOTHING
RETURNING id, algo, digest, size
"""

_REFS = """
INSERT INTO refs (owner_id, block_id, kind)
SELECT * FROM unnest(%(ref_owners)b::bigint[], %(blocks)b::bigint[], %(kinds)b::smallint[])
"""

_OPEN = f"""
WITH opened AS (
    INSERT INTO owners (id, domain_id, state, unconfirmed, changed_at, expires_at, lifetime)
    SELECT o.id, %(domain)b, {OwnerState.OPEN.value}, o.unconfirmed, %(now)b, %(now)b + %(lifetime)b, %(lifetime)b
    FROM unnest(%(owners)b::bigint[], %(unconfirmed)b::int[]) AS o(id, unconfirmed)
) {_REFS}
"""

_LOOK = f"SELECT id FROM blocks WHERE id = ANY(%(blocks)b::bigint[]) AND state <> {BlockState.STORED.value}"

_TAKE_OVER = f"""
WITH wanted AS (
    SELECT b.id, b.state FROM blocks b WHERE b.id = ANY(%(blocks)b::bigint[]) AND b.state <> {BlockState.STORED.value}
    ORDER BY {KEY_ORDER} FOR NO KEY UPDATE
)
UPDATE blocks b SET state = {BlockState.PENDING.value}, generation = b.generation + 1, wanted_back = false
FROM wanted WHERE b.id = wanted.id AND b.id = ANY(%(blocks)b::bigint[])
RETURNING b.id, wanted.state
"""

_WILL_WRITE = f"""
UPDATE refs SET kind = {WRITES} FROM unnest(%(owners)b::bigint[], %(blocks)b::bigint[]) AS c(owner_id, block_id)
WHERE refs.owner_id = c.owner_id AND refs.block_id = c.block_id AND refs.owner_id = ANY(%(owners)b::bigint[])
"""

_ADD_UNCONFIRMED = """
UPDATE owners SET unconfirmed = unconfirmed + x.more, expires_at = %(now)b + lifetime
FROM unnest(%(owners)b::bigint[], %(unconfirmed)b::int[]) AS x(id, more)
WHERE owners.id = x.id AND owners.id = ANY(%(owners)b::bigint[])
"""

_CLAIM = f"WITH counted AS ({_ADD_UNCONFIRMED} RETURNING owners.id) {_REFS}"


class _Found(NamedTuple):
    """The record of a key as it was found, or made."""

    id: int
    state: BlockState
    is_new: bool
    kind: int | None = None
    """How the session holds it already."""


_States = {state.value: state for state in BlockState}


def open_sessions(
    domain_id: int, batches: Sequence[Sequence[BlockKey]], now_ns: int, lifetime_ns: int
) -> Script[list[OpenedSession]]:
    """Start a session per batch and claim its keys, as if one after the other."""
    first = drawn_owner(now_ns, len(batches))
    keys = in_order(key for batch in batches for key in batch)
    found = yield from _find(domain_id, 0, keys)
    plan = _Plan([(first + place, batch) for place, batch in enumerate(batches)], found)
    yield from plan.write(_OPEN, {"domain": domain_id, "lifetime": lifetime_ns}, now_ns)
    return [OpenedSession(session, claims) for (session, _), claims in zip(plan.requests, plan.outcomes(), strict=True)]


def claim_more(session: int, keys: Sequence[BlockKey], now_ns: int, *, again: bool = False) -> Script[list[Claim]]:
    """Claim more keys for an open session. `again`: a first try may have happened, so what the session holds and has
    not confirmed is to be written, rather once too often than not at all. Raises Conflict."""
    (locked,) = yield [lock_owners([session])]
    owner = check_open(session, locked.rows)
    found = yield from _find(owner.domain_id, session, in_order(keys))
    plan = _Plan([(session, keys)], found, again)
    yield from plan.write(_CLAIM, {}, now_ns)
    return plan.outcomes()[0]


def _find(domain_id: int, session: int, keys: Sequence[BlockKey]) -> Script[dict[BlockKey, _Found]]:
    """The records of `keys`; those that have none get one. Raises RacedError when somebody else makes the same one: his
    transaction has ended by then, and begun again ours finds it."""
    if not keys:
        return {}
    values: dict[str, Any] = {"domain": domain_id, "owner": session}
    (result,) = yield [Statement(FIND, values | columns(keys))]
    found = {
        block_key(algo, digest, size): _Found(id_, _States[state], False, kind)
        for id_, algo, digest, size, state, kind in result.rows
    }
    missing = [key for key in keys if key not in found]
    if missing:
        (made,) = yield [Statement(_INSERT_BLOCKS, {"domain": domain_id} | columns(missing))]
        if made.changed < len(missing):
            raise RacedError(f"{len(missing) - made.changed} blocks were claimed by somebody else at the same time")
        for id_, algo, digest, size in made.rows:
            found[block_key(algo, digest, size)] = _Found(id_, BlockState.PENDING, True)
    return found


class _Plan:
    """What a group of sessions claims: worked out from records as they were found, then put right."""

    def __init__(
        self, requests: list[tuple[int, Sequence[BlockKey]]], found: dict[BlockKey, _Found], again: bool = False
    ) -> None:
        self.requests = requests
        self._found = found
        self._again = again
        order = {key: place for place, key in enumerate(in_order(key for _, batch in requests for key in batch))}
        claims = sorted({(order[key], key, session) for session, batch in requests for key in batch})
        self._kinds: dict[tuple[int, int], int] = {
            (session, found[key].id): RELIES if found[key].state is BlockState.STORED else WRITES
            for _, key, session in claims
            if found[key].kind is None
        }
        """Claims that are new, by session and block, in the order of keys."""
        self._was_damaged: set[int] = set()

    def write(self, statement: str, values: dict[str, Any], now_ns: int) -> Script[None]:
        """Write owners and claims; then look at the states, now that the claims keep every collector away, and take
        over what is not stored."""
        counts = Counter(session for (session, _), kind in self._kinds.items() if kind == WRITES)
        owners = [session for session, _ in self.requests]
        values |= {
            "owners": Bigints(owners),
            "unconfirmed": Integers(counts[session] for session in owners),
            "now": now_ns,
        }
        values |= _pairs("ref_owners", list(self._kinds)) | {"kinds": Smallints(self._kinds.values())}
        claimed = {block for _, block in self._kinds}
        there = [record.id for record in self._found.values() if not record.is_new and record.id in claimed]
        if not there:
            yield Last([Statement(statement, values)])
            return
        _, looked = yield [Statement(statement, values), Statement(_LOOK, {"blocks": Bigints(there)})]
        if looked.rows:
            yield from self._take_over([block for (block,) in looked.rows], now_ns)

    def _take_over(self, blocks: Sequence[int], now_ns: int) -> Script[None]:
        (taken,) = yield [Statement(_TAKE_OVER, {"blocks": Bigints(blocks)})]
        self._was_damaged = {block for block, state in taken.rows if state == BlockState.DAMAGED.value}
        pending = {block for block, _ in taken.rows}
        late = [claim for claim, kind in self._kinds.items() if kind == RELIES and claim[1] in pending]
        if late:  # stored when it was found, and damaged or condemned before our claim was there
            self._kinds.update(dict.fromkeys(late, WRITES))
            counts = Counter(owner for owner, _ in late)
            more = {"owners": Bigints(counts), "unconfirmed": Integers(counts.values()), "now": now_ns}
            yield [Statement(_WILL_WRITE, _pairs("owners", late)), Statement(_ADD_UNCONFIRMED, more)]

    def outcomes(self) -> list[list[Claim]]:
        """What each session is told, key by key."""
        repaired: set[int] = set()
        return [self._outcome(session, batch, repaired) for session, batch in self.requests]

    def _outcome(self, session: int, batch: Sequence[BlockKey], repaired: set[int]) -> list[Claim]:
        claims, told = [], set()
        for key in batch:
            record = self._found[key]
            kind = self._kinds.get((session, record.id), record.kind if self._again else None)
            must_write = kind == WRITES and record.id not in told
            repairs = must_write and record.id in self._was_damaged and record.id not in repaired
            told.add(record.id)
            if repairs:
                repaired.add(record.id)
            claims.append(Claim(key, must_write, repairs))
        return claims


def _pairs(name: str, claims: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Claims as two arrays."""
    return {name: Bigints(owner for owner, _ in claims), "blocks": Bigints(block for _, block in claims)}
