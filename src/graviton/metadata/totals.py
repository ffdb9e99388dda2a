"""Running sums of a domain: delta rows written with each change and folded together now and then.

A row per change instead of one row for all keeps writers from waiting for each other where the backend locks rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from graviton.errors import IntegrityError
from graviton.metadata.rows import TOTALS, decode_totals, encode_totals, u64
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["Sums", "add", "put_delta", "put_sum", "read"]

_FOLD_ONE_IN = 64
"""One change in so many, drawn at random, folds: a read then sums about a hundred rows, and a change costs one."""
_FOLD_ROWS = 512
"""Rows folded at once: some milliseconds, and eight times what comes between two folds."""

_FOLDED = u64(0)  # key of the folded row; owners are never 0


def add(tx: Transaction, domain: bytes, owner: int, delta: StoreTotals) -> None:
    """Add `delta`, whose numbers may be negative, to the totals of `domain` (a key prefix). `owner` only spreads the
    rows: changes of different owners never meet in one."""
    if not any(delta):
        return
    put_delta(tx, domain, owner, delta)
    if secrets.randbelow(_FOLD_ONE_IN) == 0:
        _fold(tx, domain)


def put_delta(tx: Transaction, domain: bytes, owner: int, delta: StoreTotals) -> None:
    """As `add`, and never fold."""
    tx.put(TOTALS, domain + u64(owner) + secrets.token_bytes(8), encode_totals(delta))


def put_sum(tx: Transaction, domain: bytes, sums: StoreTotals) -> None:
    """Begin the totals of `domain`, which has none yet, with a sum."""
    tx.put(TOTALS, domain + _FOLDED, encode_totals(sums))


def read(tx: ReadTransaction, domain: bytes) -> StoreTotals:
    """The sums. Raises IntegrityError."""
    try:
        return _sum(value for _, value in tx.scan(TOTALS, domain))
    except IntegrityError as error:
        raise IntegrityError(
            f"the totals cannot be read: {error}",
            operation="totals",
            hint="`graviton meta repair-totals` counts them anew; nothing else depends on them.",
        ) from error


class Sums:
    """Changes of the totals of several domains, collected in one transaction and written at its end."""

    __slots__ = ("_by_domain",)

    def __init__(self) -> None:
        self._by_domain: dict[bytes, list[int]] = {}

    def add(
        self, domain: bytes, blobs: int = 0, logical_bytes: int = 0, blocks: int = 0, stored_bytes: int = 0
    ) -> None:
        """Add to the sums of `domain`."""
        sums = self._by_domain.setdefault(domain, [0, 0, 0, 0])
        sums[0] += blobs
        sums[1] += logical_bytes
        sums[2] += blocks
        sums[3] += stored_bytes

    def of(self, domain: bytes) -> StoreTotals:
        """What was added for `domain`."""
        return StoreTotals(*self._by_domain.get(domain, ()))

    def write(self, tx: Transaction, owner: int) -> None:
        """One row per domain that changed."""
        for domain, sums in self._by_domain.items():
            add(tx, domain, owner, StoreTotals(*sums))


def _sum(rows: Iterable[bytes]) -> StoreTotals:
    sums = Sums()
    for row in rows:
        sums.add(b"", *decode_totals(row))
    return sums.of(b"")


def _fold(tx: Transaction, domain: bytes) -> None:
    try:
        rows = list(tx.scan(TOTALS, domain, None, _FOLD_ROWS))
    except IntegrityError:
        return  # whoever asks for the totals is told of the damaged row; a put has no need of them
    tx.delete_many(TOTALS, [key for key, _ in rows])
    tx.put(TOTALS, domain + _FOLDED, encode_totals(_sum(value for _, value in rows)))
