"""Confirming: blocks that are durable become stored, point 2 of docs/block-life.md, for a group of sessions at once.

And looking that sessions hold the blocks of their pages. Nobody waits for claims on the disk, so a server that crashes
may forget some of a session that lives on. A claim to write is missed when it is confirmed; one that relies on a block
would be missed by nobody, and a blob visible whose blocks a collector takes away. So no page is written without a look
at the claims in the same transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from graviton.backends.postgres._arrays import Bigints
from graviton.backends.postgres._keys import KEY_ORDER, block_of, claim_of, columns, in_order
from graviton.backends.postgres._owners import check_open, lock_owners
from graviton.backends.postgres._scripts import Last, Result, Script, Statement
from graviton.backends.postgres._totals import Delta, add_totals
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.manifests import ManifestPage
from graviton.metadata.owners import not_held
from graviton.metadata.rows import CONFIRMED, WRITES
from graviton.ports.block_index import BlockState
from graviton.ports.events import EventKind
from graviton.ports.manifests import StoreTotals

__all__ = ["Confirmation", "Request", "confirm", "confirm_claims"]

_CONFIRM = f"""
WITH asked AS (
    SELECT * FROM unnest(%(owners)b::bigint[], %(algos)b::smallint[], %(digests)b::bytea[], %(sizes)b::bigint[])
        WITH ORDINALITY AS k(owner_id, algo, digest, size, place)
), held AS (
    SELECT k.place, k.owner_id, o.domain_id, b.id, r.kind = {WRITES} AND k.place <= %(durable)b::bigint AS was_written
    FROM asked k
    CROSS JOIN LATERAL (SELECT id, domain_id FROM owners WHERE id = k.owner_id LIMIT 1) AS o
    CROSS JOIN {block_of("o.domain_id")} AS b
    CROSS JOIN {claim_of("o.id")} AS r
    WHERE r.owner_id = o.id AND r.block_id = b.id
), wanted AS (
    SELECT b.id FROM blocks b WHERE b.id = ANY(ARRAY(SELECT id FROM held WHERE was_written))
    ORDER BY {KEY_ORDER} FOR NO KEY UPDATE
), stored AS (
    UPDATE blocks b SET state = {BlockState.STORED.value}
    WHERE b.id = ANY(ARRAY(SELECT id FROM wanted)) AND b.state = {BlockState.PENDING.value}
    RETURNING b.domain_id, b.algo, b.digest, b.size
)
{{told}}SELECT (SELECT min(place) FROM asked WHERE place NOT IN (SELECT place FROM held)),
       ARRAY(SELECT owner_id FROM held WHERE was_written),
       ARRAY(SELECT id FROM held WHERE was_written),
       ARRAY(SELECT domain_id FROM stored GROUP BY domain_id ORDER BY domain_id),
       ARRAY(SELECT count(*) FROM stored GROUP BY domain_id ORDER BY domain_id),
       ARRAY(SELECT sum(size)::bigint FROM stored GROUP BY domain_id ORDER BY domain_id)
"""
"""Turns the records of blocks that sessions had to write to stored, of the first `durable` keys; the others are looked
for. Whoever made a block pending last: our bytes are durable under its name, and it has our claim. Found are: the first
key that its session does not hold; owner and block of the claims that were to be written; what is stored now, by
domain."""

_ALGO_NAMES = " ".join(f"WHEN {algo.tag} THEN '{algo.value}'" for algo in HashAlgo)

_TOLD = f"""
, told AS (
    INSERT INTO events (at, domain_id, kind, subject, data)
    SELECT %(now)b, domain_id, '{EventKind.BLOCK_STORED.value}',
           CASE algo {_ALGO_NAMES} END || ':' || encode(digest, 'hex') || ':' || size, '{{}}'::jsonb
    FROM stored
)
"""

_CONFIRM_QUIETLY = _CONFIRM.format(told="")
_CONFIRM_AND_TELL = _CONFIRM.format(told=_TOLD)

_CONFIRM_REFS = f"""
UPDATE refs SET kind = {CONFIRMED} WHERE owner_id = %(owner)b AND block_id = ANY(%(blocks)b::bigint[])
"""

_COUNT = """
UPDATE owners SET unconfirmed = unconfirmed - %(count)b::int, expires_at = %(now)b + lifetime WHERE id = %(owner)b
"""


class Request(NamedTuple):
    """What a session asks for."""

    session: int
    keys: Sequence[BlockKey]
    """Blocks to be confirmed: their bytes are durable."""
    pages: Sequence[ManifestPage] = ()
    """Pages whose blocks it must hold, all of them."""

    def others(self) -> list[BlockKey]:
        """The blocks of the pages that are not among the keys."""
        told = set(self.keys)
        return [key for key in dict.fromkeys(key for page in self.pages for key in page.keys) if key not in told]


class Confirmation(NamedTuple):
    """What confirming claims did."""

    written: Counter[int]
    """Claims that were to be written and are confirmed now, by owner."""
    blocks: list[int]
    """Their blocks."""
    added: list[Delta]
    """What that adds to the totals."""


class confirm_claims:  # noqa: N801 - read as what it does: a statement, and how to read its result
    """The statement that confirms claims of sessions, which must be locked, looks for those on blocks of their pages,
    and what its result says. With block.stored among `kinds` it also writes that event for each."""

    def __init__(self, requests: Sequence[Request], now_ns: int, kinds: Collection[EventKind]) -> None:
        self._pairs = [(one.session, key) for one in requests for key in in_order(one.keys)]
        durable = len(self._pairs)
        self._pairs += [(one.session, key) for one in requests for key in one.others()]
        owners = [session for session, _ in self._pairs]
        values = {"owners": Bigints(owners), "durable": durable} | columns([key for _, key in self._pairs])
        if EventKind.BLOCK_STORED in kinds:
            self.statement = Statement(_CONFIRM_AND_TELL, values | {"now": now_ns})
        else:
            self.statement = Statement(_CONFIRM_QUIETLY, values)

    def outcome(self, result: Result) -> Confirmation:
        """Raises Conflict for a block that its session does not hold."""
        missing, owners, blocks, domains, counts, sizes = result.rows[0]
        if missing is not None:
            session, key = self._pairs[missing - 1]
            raise not_held(session, key)
        added = [
            Delta(domain, StoreTotals(blocks=count, stored_bytes=size))
            for domain, count, size in zip(domains, counts, sizes, strict=True)
        ]
        return Confirmation(Counter(owners), blocks, added)


def confirm(
    session: int,
    keys: Sequence[BlockKey],
    now_ns: int,
    kinds: Collection[EventKind],
    pages: Sequence[ManifestPage] = (),
    also: Sequence[Statement] = (),
) -> Script[None]:
    """Confirm claims of an open session, which stays open and must hold the blocks of `pages`, and do `also`. Raises
    Conflict."""
    confirming = confirm_claims([Request(session, keys, pages)], now_ns, kinds)
    locked, result = yield [lock_owners([session]), confirming.statement]
    check_open(session, locked.rows)
    done = confirming.outcome(result)
    batch = [Statement(_COUNT, {"owner": session, "count": done.written[session], "now": now_ns}), *also]
    if done.blocks:
        batch.append(Statement(_CONFIRM_REFS, {"owner": session, "blocks": Bigints(done.blocks)}))
    yield Last([*batch, *add_totals(session, done.added)])
