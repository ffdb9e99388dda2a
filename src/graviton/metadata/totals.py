"""Running sums of a domain: delta rows written with each change and folded together now and then.

A row per change instead of one row for all keeps writers from waiting for each other where the backend locks rows.
"""

from __future__ import annotations

import secrets

from graviton.metadata.rows import TOTALS, decode_totals, encode_totals, u64
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["add", "read"]

_FOLD_ONE_IN = 64
"""One change in so many, drawn at random, folds: a read then sums about a hundred rows, and a change costs one."""
_FOLD_ROWS = 512
"""Rows folded at once: some milliseconds, and eight times what comes between two folds."""

_FOLDED = u64(0)  # key of the folded row; owners are never 0


def add(tx: Transaction, domain: bytes, owner: int, delta: StoreTotals) -> None:
    """Add `delta`, whose numbers may be negative, to the totals of `domain` (a key prefix)."""
    if not any(delta):
        return
    tx.put(TOTALS, domain + u64(owner) + secrets.token_bytes(4), encode_totals(delta))
    if secrets.randbelow(_FOLD_ONE_IN) == 0:
        _fold(tx, domain)


def read(tx: ReadTransaction, domain: bytes) -> StoreTotals:
    """The sums."""
    sums = [0, 0, 0, 0]
    for _, value in tx.scan(TOTALS, domain):
        for place, number in enumerate(decode_totals(value)):
            sums[place] += number
    return StoreTotals(*sums)


def _fold(tx: Transaction, domain: bytes) -> None:
    rows = list(tx.scan(TOTALS, domain, None, _FOLD_ROWS))
    sums = [0, 0, 0, 0]
    for _, value in rows:
        for place, number in enumerate(decode_totals(value)):
            sums[place] += number
    tx.delete_many(TOTALS, [key for key, _ in rows])
    tx.put(TOTALS, domain + _FOLDED, encode_totals(StoreTotals(*sums)))
