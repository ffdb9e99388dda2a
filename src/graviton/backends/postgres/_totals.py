"""Running sums of a domain: a row per change, folded together now and then, so that no writer waits for another."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

from graviton.backends.postgres._arrays import Bigints, Byteas, Integers
from graviton.backends.postgres._scripts import Script, Statement
from graviton.metadata.rows import u64
from graviton.ports.manifests import StoreTotals

__all__ = ["FOLD_ONE_IN", "READ_TOTALS", "TOTALS_VALUES", "Delta", "add_totals", "fold", "totals_values"]

FOLD_ONE_IN = 64
"""One change in so many is followed by a fold: a read then sums about a hundred rows."""

_FOLD_ROWS = 512
"""Rows folded at once: a few milliseconds, and eight times what comes between two folds."""

READ_TOTALS = """
SELECT coalesce(sum(blobs), 0)::bigint, coalesce(sum(logical_bytes), 0)::bigint,
       coalesce(sum(blocks), 0)::bigint, coalesce(sum(stored_bytes), 0)::bigint
FROM totals WHERE domain_id = %(domain)b
"""

TOTALS_VALUES = """
    unnest(%(total_domains)b::int[], %(suffixes)b::bytea[], %(blobs)b::bigint[], %(logical)b::bigint[],
           %(blocks)b::bigint[], %(stored)b::bigint[])
"""
"""The rows of `totals_values`."""

_INSERT = f"""
INSERT INTO totals (domain_id, suffix, blobs, logical_bytes, blocks, stored_bytes) SELECT * FROM {TOTALS_VALUES}
"""

_FOLD = """
WITH old AS (
    SELECT domain_id, suffix FROM totals ORDER BY domain_id LIMIT %(rows)b FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM totals t USING old WHERE t.domain_id = old.domain_id AND t.suffix = old.suffix
    RETURNING t.domain_id, t.blobs, t.logical_bytes, t.blocks, t.stored_bytes
)
INSERT INTO totals (domain_id, suffix, blobs, logical_bytes, blocks, stored_bytes)
SELECT domain_id, %(suffix)b, sum(blobs), sum(logical_bytes), sum(blocks), sum(stored_bytes)
FROM gone GROUP BY domain_id
"""
"""Rows that somebody else is folding are left to him."""


class Delta(NamedTuple):
    """A change of the totals of one domain."""

    domain_id: int
    totals: StoreTotals


def add_totals(owner: int, deltas: Iterable[Delta]) -> list[Statement]:
    """The statement that adds `deltas`; none if nothing changes."""
    values = totals_values(owner, deltas)
    return [Statement(_INSERT, values)] if values["suffixes"] else []


def totals_values(owner: int, deltas: Iterable[Delta]) -> dict[str, Any]:
    """The parameters of `TOTALS_VALUES` for `deltas`, of which several may be of one domain. `owner` and random bytes
    make a row's name."""
    sums: dict[int, list[int]] = {}
    for domain_id, totals in deltas:
        row = sums.setdefault(domain_id, [0, 0, 0, 0])
        for place, number in enumerate(totals):
            row[place] += number
    changed = {domain_id: row for domain_id, row in sums.items() if any(row)}
    columns = [Bigints(row[place] for row in changed.values()) for place in range(len(StoreTotals._fields))]
    return {
        "total_domains": Integers(changed),
        "suffixes": Byteas(_suffix(owner) for _ in changed),
        **dict(zip(("blobs", "logical", "blocks", "stored"), columns, strict=True)),
    }


def fold() -> Script[None]:
    """Put rows together into one per domain."""
    yield [Statement(_FOLD, {"rows": _FOLD_ROWS, "suffix": _suffix(0)})]


def _suffix(owner: int) -> bytes:
    return u64(owner) + secrets.token_bytes(8)
