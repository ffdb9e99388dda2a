"""The quota's books as transactions: what may be reserved, and what is held, by what the store itself says.

docs/decisions/0050-quota.md has the failure sequences. What every function here keeps to:

- How much there is in all is never counted here: the store keeps those sums, in the same transactions as its blobs.
- Whether a holder holds a blob is never taken from whoever says so: `settle` looks, in its own transaction. So it does
  not matter in which order, or how often, the ends of a put and of a delete of the same blob are told.
- `settle` writes the sums of the holder also where nothing changed. Two of them then never pass each other: a database
  that lets transactions run side by side sees that they write the same row, and lets the later one look again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from graviton.constraints.quota_limits import QuotaLimits
from graviton.constraints.quota_rows import (
    ALL,
    HELD,
    HELD_ROW,
    RESERVATIONS,
    SUMS,
    Amount,
    ReservationRow,
    SumsRow,
    held_key,
    reservation_key,
    sums_key,
)
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_SIZE
from graviton.errors import AlreadyExists, NotFound, StorageFull
from graviton.metadata.holdings import held_many, totals_of_all_domains
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["Usage", "any_promised", "change", "close", "expired", "load", "reserve", "settle", "usage"]


class Usage(NamedTuple):
    """What is used of a quota."""

    bytes: int
    blobs: int
    reserved_bytes: int
    """Beside those: by puts and uploads that are going on, or have ended without a word and not expired yet."""
    reserved_blobs: int


def usage(tx: ReadTransaction, holder: str | None) -> Usage:
    """Of a holder, or in all."""
    if holder is not None:
        return Usage(*_sums(tx, sums_key(holder)))
    stored, kept = totals_of_all_domains(tx), _sums(tx, ALL)
    return Usage(stored.logical_bytes, stored.blobs, kept.reserved_bytes, kept.reserved_blobs)


def load(tx: ReadTransaction, id: str) -> ReservationRow:
    """A reservation. Raises NotFound."""
    data = tx.get(RESERVATIONS, reservation_key(id))
    if data is None:
        raise NotFound(
            f"there is no reservation {id}",
            operation="quota",
            subject=id,
            hint="It was released, or its time was past and somebody needed the room: reserve anew.",
        )
    return ReservationRow.decode(data)


def reserve(tx: Transaction, limits: QuotaLimits, id: str, row: ReservationRow) -> Usage | None:
    """Make a reservation; what is used in all then, if anybody asked. Raises AlreadyExists, StorageFull."""
    if tx.get(RESERVATIONS, reservation_key(id)) is not None:
        raise AlreadyExists(f"there is a reservation {id} already", operation="quota", subject=id)
    used = _move(tx, limits, row.holder, row.amount)
    tx.put(RESERVATIONS, reservation_key(id), row.encode())
    return used


def change(
    tx: Transaction, limits: QuotaLimits, id: str, update: Callable[[ReservationRow], ReservationRow]
) -> Usage | None:
    """Change a reservation; as `reserve`. Raises NotFound, StorageFull."""
    old = load(tx, id)
    new = update(old)
    more = Amount(new.amount.bytes - old.amount.bytes, new.amount.blobs - old.amount.blobs)
    used = _move(tx, limits, old.holder, more)
    tx.put(RESERVATIONS, reservation_key(id), new.encode())
    return used


def close(tx: Transaction, id: str, keys: Sequence[BlobKey] = (), now_ns: int | None = None) -> bool:
    """Take a reservation away, with `now_ns` only if its time is past by then, and enter what came of the blobs `keys`
    and of those that were promised. Whether it was done."""
    data = tx.get(RESERVATIONS, reservation_key(id))
    if data is None:
        return False
    row = ReservationRow.decode(data)
    if now_ns is not None and row.expires_at_ns > now_ns:
        return False
    settle(tx, row.holder, row.domain, [*row.keys, *keys])
    _move(tx, QuotaLimits(), row.holder, Amount(-row.amount.bytes, -row.amount.blobs))
    tx.delete(RESERVATIONS, reservation_key(id))
    return True


def settle(tx: Transaction, holder: str, domain: str, keys: Sequence[BlobKey]) -> None:
    """Let the books say of the blobs `keys` what the store says. Raises IntegrityError."""
    keys = list(dict.fromkeys(keys))
    if not keys:
        return
    places = [held_key(holder, domain, key) for key in keys]
    booked = [row is not None for row in tx.get_many(HELD, places)]
    held = held_many(tx, domain, holder, keys)
    rows = list(zip(places, keys, booked, held, strict=True))
    new = [(place, key) for place, key, was, is_now in rows if is_now and not was]
    gone = [(place, key) for place, key, was, is_now in rows if was and not is_now]
    tx.put_many(HELD, sorted((place, HELD_ROW) for place, _ in new))
    tx.delete_many(HELD, [place for place, _ in gone])
    more = Amount(
        sum(key.size for _, key in new) - sum(key.size for _, key in gone),
        len(new) - len(gone),
    )
    tx.put(SUMS, sums_key(holder), _sums(tx, sums_key(holder)).held(more).encode())


def expired(tx: ReadTransaction, now_ns: int, after: bytes | None, limit: int) -> tuple[list[str], bytes | None]:
    """Ids of reservations whose time is past, among the `limit` after the key `after`; and where to go on."""
    rows = list(tx.scan(RESERVATIONS, b"", after, limit))
    due = [key.decode() for key, data in rows if ReservationRow.decode(data).expires_at_ns <= now_ns]
    return due, rows[-1][0] if len(rows) == limit else None


def any_promised(tx: ReadTransaction) -> bool:
    """Whether somebody is about to commit what he has reserved, or has just done so."""
    rows = (ReservationRow.decode(data) for _, data in tx.scan(RESERVATIONS))
    return any(row.keys and row.amount.blobs for row in rows)


def _move(tx: Transaction, limits: QuotaLimits, holder: str, more: Amount) -> Usage | None:
    """Reserve more, or give some back; what is used in all then, if a limit asks for it. Raises StorageFull."""
    if not any(more):
        return None
    kept, own = _sums(tx, ALL).reserved(more), _sums(tx, sums_key(holder)).reserved(more)
    is_asked = limits.bytes is not None or limits.blobs is not None
    stored = totals_of_all_domains(tx) if is_asked else StoreTotals()
    whole = Usage(stored.logical_bytes, stored.blobs, kept.reserved_bytes, kept.reserved_blobs)
    _check(whole, more, limits.bytes, limits.blobs, "of all", "GRAVITON_QUOTA")
    _check(Usage(*own), more, limits.holder_bytes, limits.holder_blobs, _called(holder), "GRAVITON_QUOTA_HOLDER")
    tx.put_many(SUMS, [(ALL, kept.encode()), (sums_key(holder), own.encode())])
    return whole if is_asked else None


def _check(used: Usage, more: Amount, max_bytes: int | None, max_blobs: int | None, whose: str, name: str) -> None:
    """Raise StorageFull if `used`, which `more` is in, is too much. What does not grow is not asked about."""
    for unit, max_, held, reserved, wanted in (
        ("bytes", max_bytes, used.bytes, used.reserved_bytes, more.bytes),
        ("blobs", max_blobs, used.blobs, used.reserved_blobs, more.blobs),
    ):
        limit = MAX_SIZE if max_ is None else max_  # what a row can say
        if wanted > 0 and held + reserved > limit:
            raise StorageFull(
                f"the quota {whose} is {limit} {unit}: {held} are used and {reserved - wanted} reserved,"
                f" and {wanted} more do not fit",
                operation="quota",
                subject=whose,
                hint=f"Remove blobs that nobody needs, or raise {name}_{unit.upper()}.",
            )


def _called(holder: str) -> str:
    return f"of the holder {holder!r}" if holder else "of the default holder"


def _sums(tx: ReadTransaction, key: bytes) -> SumsRow:
    data = tx.get(SUMS, key)
    return SumsRow() if data is None else SumsRow.decode(data)
