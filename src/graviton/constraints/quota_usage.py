"""What is used of a quota, and what may still be put: looked at inside of a transaction, and nothing is changed."""

from __future__ import annotations

from typing import NamedTuple

from graviton.constraints.quota_limits import QuotaLimits
from graviton.constraints.quota_rows import ALL, HELD, SUMS, Amount, SumsRow, held_key, sums_key
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_SIZE
from graviton.metadata.holdings import there_many, totals_of_all_domains
from graviton.ports.kv import ReadTransaction

__all__ = ["Usage", "decoded_sums", "largest_possible", "usage"]


class Usage(NamedTuple):
    """What is used of a quota."""

    bytes: int
    blobs: int
    reserved_bytes: int
    """Beside those: by puts and uploads that are going on, or have ended without a word and not expired yet."""
    reserved_blobs: int

    def less(self, reserved: Amount) -> Usage:
        """With less reserved."""
        return self._replace(
            reserved_bytes=self.reserved_bytes - reserved.bytes, reserved_blobs=self.reserved_blobs - reserved.blobs
        )


def usage(tx: ReadTransaction, holder: str | None) -> Usage:
    """Of a holder, or in all."""
    if holder is not None:
        return Usage(*_sums(tx, sums_key(holder)))
    stored, kept = totals_of_all_domains(tx), _sums(tx, ALL)
    return Usage(stored.logical_bytes, stored.blobs, kept.reserved_bytes, kept.reserved_blobs)


def largest_possible(
    tx: ReadTransaction, limits: QuotaLimits, holder: str, domain: str, claimed: BlobKey | None, own: Amount
) -> int:
    """The most bytes of a blob that fits now, where `own` is reserved for it, or that may be there: any, or the one
    that it is `claimed` to be. -1 for none."""
    whole, his = usage(tx, None), usage(tx, holder)
    there, booked = (used.bytes if used.blobs else -1 for used in (whole, his))
    if claimed is not None:
        is_booked = tx.get(HELD, held_key(holder, domain, claimed)) is not None
        there = claimed.size if there_many(tx, domain, [claimed])[0] else -1
        booked = claimed.size if is_booked else -1
    return min(
        max(there, _free(whole, own, limits.bytes, limits.blobs)),
        max(booked, _free(his, own, limits.holder_bytes, limits.holder_blobs)),
    )


def _free(used: Usage, own: Amount, max_bytes: int | None, max_blobs: int | None) -> int:
    """For how many bytes of one more blob there is room."""
    if max_blobs is not None and used.blobs + used.reserved_blobs - own.blobs >= max_blobs:
        return -1
    return MAX_SIZE if max_bytes is None else max_bytes - used.bytes - used.reserved_bytes + own.bytes


def _sums(tx: ReadTransaction, key: bytes) -> SumsRow:
    return decoded_sums(tx.get(SUMS, key))


def decoded_sums(data: bytes | None) -> SumsRow:
    """A row of sums, which begins at nothing."""
    return SumsRow() if data is None else SumsRow.decode(data)
