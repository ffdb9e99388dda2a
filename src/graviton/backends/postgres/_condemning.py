"""Condemning blocks that nobody holds: point 6 of docs/block-life.md, in SQL.

The order of locks: the run, so that a call repeated after a lost reply waits for the first; then candidates, passing
over those that another collector looks at, or that somebody who took a claim away has just put there; then their
blocks, in the order of keys. Nobody can claim a locked block (`_claims.py`). Only then, in a statement of its own that
sees what the locks were waited for, it is looked whether somebody holds them.

A statement that locks and looks at once would not do: after it has waited it sees the new state of the rows that it
locked, but other tables as they were before. tests/integration/test_postgres_interleavings.py shows the loss.
"""

from __future__ import annotations

from typing import Any

from graviton.backends.postgres._arrays import Bigints
from graviton.backends.postgres._keys import KEY_ORDER, block_key
from graviton.backends.postgres._scripts import Last, Row, Script, Statement
from graviton.backends.postgres._totals import Delta, add_totals
from graviton.ports.block_index import MAX_OPEN_NOTES, BlockState, Condemned, Note
from graviton.ports.manifests import StoreTotals

__all__ = ["condemn", "note_of", "notes_after"]

_LOCK_RUN = "SELECT pg_advisory_xact_lock(hashtextextended(encode(%(run)b, 'hex'), 0))"

_COUNT_NOTES = "SELECT count(*) FROM notes WHERE run = %(run)b"

_LOCK_CANDIDATES = """
SELECT block_id FROM candidates ORDER BY block_id LIMIT %(room)b FOR UPDATE SKIP LOCKED
"""

_LOCK_BLOCKS = f"""
SELECT FROM blocks b WHERE b.id = ANY(%(blocks)b::bigint[]) ORDER BY {KEY_ORDER} FOR UPDATE
"""

_FIND_UNHELD = """
SELECT b.id, b.domain_id, b.size, b.state FROM blocks b
LEFT JOIN LATERAL (SELECT true AS held FROM refs WHERE block_id = b.id ORDER BY owner_id LIMIT 1) AS r ON true
WHERE b.id = ANY(%(blocks)b::bigint[]) AND r.held IS NULL
"""

_CONDEMN = f"""
WITH condemned AS (
    UPDATE blocks SET state = {BlockState.CONDEMNED.value}, generation = generation + 1, wanted_back = false
    WHERE id = ANY(%(blocks)b::bigint[]) RETURNING domain_id, algo, digest, size, generation
)
INSERT INTO notes (domain_id, algo, digest, size, run, generation, noted_at)
SELECT c.domain_id, c.algo, c.digest, c.size, %(run)b, c.generation, %(now)b FROM condemned c
ON CONFLICT (domain_id, algo, digest, size, run)
    DO UPDATE SET generation = EXCLUDED.generation, noted_at = EXCLUDED.noted_at
"""

_FORGET_CANDIDATES = "DELETE FROM candidates WHERE block_id = ANY(%(blocks)b::bigint[])"

_NOTE_COLUMNS = "n.run, d.name, n.algo, n.digest, n.size, n.generation, n.noted_at"

_ALL_NOTES = f"""
SELECT {_NOTE_COLUMNS}
FROM (SELECT id, name FROM domains WHERE name >= %(domain)b::text ORDER BY name) AS d
CROSS JOIN LATERAL (
    SELECT * FROM notes WHERE domain_id = d.id AND (algo, digest, size, run) >
        (CASE WHEN d.name = %(domain)b::text THEN %(algo)b::smallint ELSE 0 END,
         %(digest)b::bytea, %(size)b::int, %(last_run)b::bytea)
    ORDER BY algo, digest, size, run LIMIT %(limit)b
) AS n
ORDER BY d.name, n.algo, n.digest, n.size, n.run LIMIT %(limit)b
"""
"""Domain by domain, because no index has notes in the order of names. The first one after a position is begun in its
middle; the rest from their beginning, as no algorithm is 0."""

_NOTES_OF_RUN = f"""
SELECT {_NOTE_COLUMNS} FROM notes n JOIN domains d ON d.id = n.domain_id
WHERE n.run = %(run)b AND (d.name, n.algo, n.digest, n.size) >
    (%(domain)b::text COLLATE "C", %(algo)b::smallint, %(digest)b::bytea, %(size)b::int)
ORDER BY d.name, n.algo, n.digest, n.size LIMIT %(limit)b
"""
"""A run has `MAX_OPEN_NOTES` at most."""


def condemn(run: bytes, limit: int, now_ns: int) -> Script[Condemned]:
    """Condemn those of up to `limit` candidates that nobody holds, and take all of them off the list."""
    _, counted = yield [Statement(_LOCK_RUN, {"run": run}), Statement(_COUNT_NOTES, {"run": run})]
    room = min(limit, MAX_OPEN_NOTES - counted.rows[0][0])
    (locked,) = yield [Statement(_LOCK_CANDIDATES, {"room": room})]
    if not locked.rows:
        (noted,) = yield [notes_after(run, None)]
        return Condemned([note_of(row) for row in noted.rows], room == 0)
    looked_at = {"blocks": Bigints(block for (block,) in locked.rows)}
    _, unheld = yield [Statement(_LOCK_BLOCKS, looked_at), Statement(_FIND_UNHELD, looked_at)]
    blocks = Bigints(row[0] for row in unheld.rows)
    batch = [
        Statement(_FORGET_CANDIDATES, looked_at),
        *add_totals(0, [_loss(row) for row in unheld.rows if row[3] == BlockState.STORED.value]),
        Statement(_CONDEMN, {"blocks": blocks, "run": run, "now": now_ns}),
        notes_after(run, None),
    ]
    *_, noted = yield Last(batch)
    return Condemned([note_of(row) for row in noted.rows], len(locked.rows) == room)


def _loss(row: Row) -> Delta:
    _, domain_id, size, _ = row
    return Delta(domain_id, StoreTotals(blocks=-1, stored_bytes=-size))


def notes_after(run: bytes | None, last: Row | None, limit: int = MAX_OPEN_NOTES) -> Statement:
    """Some notes of a run, or of all, after the last one that was read."""
    last_run, domain, algo, digest, size = last[:5] if last is not None else (b"", "", 0, b"", 0)
    values: dict[str, Any] = {"domain": domain, "algo": algo, "digest": digest, "size": size, "limit": limit}
    if run is None:
        return Statement(_ALL_NOTES, values | {"last_run": last_run})
    return Statement(_NOTES_OF_RUN, values | {"run": run})


def note_of(row: Row) -> Note:
    """The note that a row tells."""
    run, domain, algo, digest, size, generation, noted_at_ns = row
    return Note(run.hex(), domain, block_key(algo, digest, size), generation, noted_at_ns)
