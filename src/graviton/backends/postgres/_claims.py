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
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._arrays import Bigints, Integers, Smallints
from graviton.backends.postgres._keys import KEY_ARRAYS, KEY_ORDER, block_key, block_of, claim_of, columns, in_order
from graviton.backends.postgres._owners import check_open, lock_owners
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres.errors import RacedError
from graviton.core.keys import BlockKey
from graviton.metadata.owners import drawn_owner
from graviton.metadata.rows import RELIES, WRITES
from graviton.ports.block_index import BlockState, Claim, OpenedSession, OwnerState

__all__ = ["claim_more", "open_sessions"]

_FIND = f"""
SELECT k.place, b.id, b.state, {{kind}}
FROM {KEY_ARRAYS} WITH ORDINALITY AS k(algo, digest, size, place)
CROSS JOIN {block_of("%(domain)b")} AS b
"""

_FIND_BLOCKS = _FIND.format(kind="NULL")
"""The records of keys, by their places from 1."""

_FIND_CLAIMS = f"""{_FIND.format(kind="r.kind")}
LEFT JOIN {claim_of("%(owner)b")} AS r ON r.owner_id = %(owner)b AND r.block_id = b.id
"""
"""The same, and how `owner` holds them."""

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


class _Request(NamedTuple):
    """What one session claims: its keys, and where each is among the distinct keys of the group, in order."""

    session: int
    keys: Sequence[BlockKey]
    places: Sequence[int]


_States = {state.value: state for state in BlockState}


def open_sessions(
    domain_id: int, batches: Sequence[Sequence[BlockKey]], now_ns: int, lifetime_ns: int
) -> Script[list[OpenedSession]]:
    """Start a session per batch and claim its keys, as if one after the other."""
    first = drawn_owner(now_ns, len(batches))
    places = _places(key for batch in batches for key in batch)
    requests = [
        _Request(session, batch, [places[key] for key in batch]) for session, batch in enumerate(batches, first)
    ]
    plan = _Plan(requests, (yield from _find(domain_id, None, places)))
    yield from plan.write(_OPEN, {"domain": domain_id, "lifetime": lifetime_ns}, now_ns)
    return [OpenedSession(request.session, claims) for request, claims in zip(requests, plan.outcomes(), strict=True)]


def claim_more(session: int, keys: Sequence[BlockKey], now_ns: int, *, again: bool = False) -> Script[list[Claim]]:
    """Claim more keys for an open session. `again`: a first try may have happened, so what the session holds and has
    not confirmed is to be written, rather once too often than not at all. Raises Conflict."""
    (locked,) = yield [lock_owners([session])]
    owner = check_open(session, locked.rows)
    places = _places(keys)
    request = _Request(session, keys, [places[key] for key in keys])
    plan = _Plan([request], (yield from _find(owner.domain_id, session, places)), again)
    yield from plan.write(_CLAIM, {}, now_ns)
    return plan.outcomes()[0]


def _places(keys: Iterable[BlockKey]) -> dict[BlockKey, int]:
    """Distinct keys in the order of locking, numbered: to hash a key takes longer than all else we do with it."""
    return {key: place for place, key in enumerate(in_order(keys))}


def _find(domain_id: int, session: int | None, places: dict[BlockKey, int]) -> Script[list[_Found]]:
    """The records of keys in their order, and how `session` holds them; those that have none get one. Raises RacedError
    when somebody else makes the same one: his transaction has ended by then, and begun again ours finds it."""
    if not places:
        return []
    keys = list(places)
    values: dict[str, Any] = {"domain": domain_id} | columns(keys)
    if session is None:
        (result,) = yield [Statement(_FIND_BLOCKS, values)]
    else:
        (result,) = yield [Statement(_FIND_CLAIMS, values | {"owner": session})]
    found = {place - 1: _Found(id_, _States[state], False, kind) for place, id_, state, kind in result.rows}
    missing = [key for place, key in enumerate(keys) if place not in found]
    if missing:
        (made,) = yield [Statement(_INSERT_BLOCKS, {"domain": domain_id} | columns(missing))]
        if made.changed < len(missing):
            raise RacedError(f"{len(missing) - made.changed} blocks were claimed by somebody else at the same time")
        for id_, algo, digest, size in made.rows:
            found[places[block_key(algo, digest, size)]] = _Found(id_, BlockState.PENDING, True)
    return [found[place] for place in range(len(keys))]


class _Plan:
    """What a group of sessions claims: worked out from records as they were found, then put right."""

    def __init__(self, requests: Sequence[_Request], found: Sequence[_Found], again: bool = False) -> None:
        self._requests = requests
        self._found = found
        self._again = again
        claims = sorted({(place, request.session) for request in requests for place in request.places})
        self._kinds: dict[tuple[int, int], int] = {
            (place, session): RELIES if found[place].state is BlockState.STORED else WRITES
            for place, session in claims
            if found[place].kind is None
        }
        """Claims that are new, by place and session, in the order of keys."""
        self._was_damaged: set[int] = set()

    def write(self, statement: str, values: dict[str, Any], now_ns: int) -> Script[None]:
        """Write owners and claims; then look at the states, now that the claims keep every collector away, and take
        over what is not stored."""
        counts = Counter(session for (_, session), kind in self._kinds.items() if kind == WRITES)
        owners = [request.session for request in self._requests]
        values |= {
            "owners": Bigints(owners),
            "unconfirmed": Integers(counts[session] for session in owners),
            "now": now_ns,
        }
        values |= self._columns("ref_owners", self._kinds) | {"kinds": Smallints(self._kinds.values())}
        claimed = [self._found[place] for place in dict.fromkeys(place for place, _ in self._kinds)]
        there = [record.id for record in claimed if not record.is_new]
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
        late = [claim for claim, kind in self._kinds.items() if kind == RELIES and self._found[claim[0]].id in pending]
        if late:  # stored when it was found, and damaged or condemned before our claim was there
            self._kinds.update(dict.fromkeys(late, WRITES))
            counts = Counter(session for _, session in late)
            more = {"owners": Bigints(counts), "unconfirmed": Integers(counts.values()), "now": now_ns}
            yield [Statement(_WILL_WRITE, self._columns("owners", late)), Statement(_ADD_UNCONFIRMED, more)]

    def _columns(self, name: str, claims: Iterable[tuple[int, int]]) -> dict[str, Any]:
        """Claims as two arrays."""
        return {
            name: Bigints(session for _, session in claims),
            "blocks": Bigints(self._found[place].id for place, _ in claims),
        }

    def outcomes(self) -> list[list[Claim]]:
        """What each session is told, key by key."""
        repaired: set[int] = set()
        return [self._outcome(request, repaired) for request in self._requests]

    def _outcome(self, request: _Request, repaired: set[int]) -> list[Claim]:
        claims: list[Claim] = []
        told: set[int] = set()
        for key, place in zip(request.keys, request.places, strict=True):
            record = self._found[place]
            kind = self._kinds.get((place, request.session), record.kind if self._again else None)
            must_write = kind == WRITES and place not in told
            repairs = must_write and record.id in self._was_damaged and place not in repaired
            told.add(place)
            if repairs:
                repaired.add(place)
            claims.append(Claim(key, must_write, repairs))
        return claims
