"""Counting the totals anew: `graviton meta repair-totals`, while others go on writing.

Totals are sums of rows, so a wrong sum is put right by one more row: the difference between what was counted and what
was kept, both in one snapshot. Whatever is written or folded together meanwhile keeps its own sum, before or after, and
nobody waits. Rows that cannot be read are in neither number and are removed. Two recounts at once would both add the
difference: each leaves a mark of its own in the namespace `store`, and one that finds another mark than in its snapshot
begins again.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

from graviton.core.names import decode_name
from graviton.errors import InvalidInput
from graviton.metadata import totals
from graviton.metadata.audit_findings import Finding, decoded
from graviton.metadata.audit_totals import count, domains
from graviton.metadata.row_walk import each_row
from graviton.metadata.rows import STORE, TOTALS, decode_totals
from graviton.ports.kv import KeyValueStore, ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["RECOUNT_KEY", "Recount", "recompute_totals"]

RECOUNT_KEY = b"recounted"
"""Key in the namespace `store`; the value is 16 random bytes of the last recount."""

_MARK_BYTES = 16


class Recount(NamedTuple):
    """What became of the totals of one domain."""

    domain: str
    kept: StoreTotals
    """What was kept, as far as it could be read."""
    counted: StoreTotals
    """What is there, and what the totals say from now on."""
    removed_rows: int
    """Damaged rows of totals that were taken away."""
    uncounted_rows: int
    """Damaged rows of blobs, owners and blocks, which could not be counted. Count again when they are repaired."""

    @property
    def is_changed(self) -> bool:
        """Whether anything was wrong."""
        return self.kept != self.counted or self.removed_rows > 0


class _Look(NamedTuple):
    """One snapshot."""

    counted: StoreTotals
    kept: StoreTotals
    damaged: list[bytes]
    """Keys of totals rows that cannot be read."""
    uncounted: int
    mark: bytes | None


async def recompute_totals(kv: KeyValueStore) -> AsyncIterator[Recount]:
    """Count every domain, and put its totals right. Durable when a result is handed out. Raises IntegrityError where
    rows cannot even be passed over, PermissionDenied, StorageFull, Unavailable."""
    async for domain in domains(kv):
        try:
            name = decode_name(domain)[0]
        except InvalidInput:
            continue  # the key of a damaged row, which is in no domain: an audit tells
        while True:
            look = await kv.read(partial(_look, domain=domain))
            if look.counted == look.kept and not look.damaged:
                break
            if await kv.transact(partial(_correct, domain=domain, look=look)):
                break
        yield Recount(name, look.kept, look.counted, len(look.damaged), look.uncounted)


def _look(tx: ReadTransaction, domain: bytes) -> _Look:
    findings: list[Finding] = []
    counted = count(tx, domain, findings)
    kept, damaged = totals.Sums(), []
    for row in each_row(tx, TOTALS, domain):
        delta = decoded([], TOTALS, row, decode_totals)
        if delta is None:
            damaged.append(row.key)
        else:
            kept.add(b"", *delta)
    return _Look(counted, kept.of(b""), damaged, len(set(findings)), tx.get(STORE, RECOUNT_KEY))


def _correct(tx: Transaction, domain: bytes, look: _Look) -> bool:
    """Add the difference; False if somebody else counted since the snapshot."""
    if tx.get(STORE, RECOUNT_KEY) != look.mark:
        return False
    tx.put(STORE, RECOUNT_KEY, secrets.token_bytes(_MARK_BYTES))
    # Nobody else touches them: folding stops at a row that cannot be read, and no key is used twice.
    tx.delete_many(TOTALS, look.damaged)
    missing = [there - told for there, told in zip(look.counted, look.kept, strict=True)]
    totals.put_delta(tx, domain, 0, StoreTotals(*missing))
    return True
