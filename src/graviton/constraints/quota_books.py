"""The quota's books inside of a transaction: what may be reserved, and what is held, by what the store itself says.

docs/decisions/0050-quota.md has the failure sequences. What every function here keeps to:

- How much there is in all is never counted here: the store keeps those sums, in the same transactions as its blobs.
- A blob that a reservation names counts once, whether it is there, is about to be, or both, and however many name it:
  what is there can be put again without room. That is looked at in the transaction that asks, and nothing of it is
  remembered: where the blob is deleted meanwhile, the reservation that names it counts by itself.
- Whether a holder holds a blob is never taken from whoever says so: `settle` looks, in its own transaction. So it does
  not matter in which order, or how often, the ends of a put and of a delete of the same blob are told.
- `settle` writes the sums of the holder also where nothing changed. Two of them then never pass each other: a database
  that lets transactions run side by side sees that they write the same row, and lets the later one look again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
from graviton.constraints.quota_usage import Usage, decoded_sums
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_SIZE
from graviton.errors import AlreadyExists, GravitonError, IntegrityError, NotFound, StorageFull
from graviton.metadata.holdings import held_many, there_many, totals_of_all_domains
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["Books", "expired", "load"]


def load(tx: ReadTransaction, id: str) -> ReservationRow:
    """A reservation. Raises NotFound."""
    data = tx.get(RESERVATIONS, reservation_key(id))
    if data is None:
        raise _not_found(id)
    return ReservationRow.decode(data)


def expired(tx: ReadTransaction, now_ns: int, after: bytes | None, limit: int) -> tuple[list[str], bytes | None]:
    """Ids of reservations whose time is past, among the `limit` after the key `after`; and where to go on."""
    rows = list(tx.scan(RESERVATIONS, b"", after, limit))
    due = [key.decode() for key, data in rows if ReservationRow.decode(data).expires_at_ns <= now_ns]
    return due, rows[-1][0] if len(rows) == limit else None


class Books:
    """The books in one transaction. Every method raises before it changes anything, and `write` writes all changes: so
    several questions of several programs' tasks share a transaction, and a refusal of one concerns no other."""

    def __init__(self, tx: Transaction, limits: QuotaLimits) -> None:
        self._tx, self._limits = tx, limits
        self._stored: StoreTotals | None = None
        self._sums: dict[bytes, SumsRow] = {}
        self._reservations: dict[bytes, ReservationRow | None] = {}
        self._held: dict[bytes, bool] = {}
        self._named: dict[bytes, ReservationRow] | None = None
        """Reservations that name blobs, as they were before this transaction; looked for once."""

    def write(self) -> None:
        """Write what has changed."""
        sums = [(key, row.encode()) for key, row in sorted(self._sums.items())]
        rows = sorted(self._reservations.items())
        held = sorted(self._held.items())
        self._put(SUMS, sums)
        self._put(RESERVATIONS, [(key, row.encode()) for key, row in rows if row is not None])
        self._delete(RESERVATIONS, [key for key, row in rows if row is None])
        self._put(HELD, [(key, HELD_ROW) for key, is_held in held if is_held])
        self._delete(HELD, [key for key, is_held in held if not is_held])

    def _put(self, namespace: str, rows: list[tuple[bytes, bytes]]) -> None:
        if rows:
            self._tx.put_many(namespace, rows)

    def _delete(self, namespace: str, keys: list[bytes]) -> None:
        if keys:
            self._tx.delete_many(namespace, keys)

    def reserve(self, id: str, row: ReservationRow) -> Usage | None:
        """Make a reservation; what is used in all then, if a limit asks for it. Raises AlreadyExists, StorageFull."""
        there = self._reservation(id)
        if there == row:
            return None  # asked again, because the reply was lost
        if there is not None:
            raise AlreadyExists(f"there is a reservation {id} already", operation="quota", subject=id)
        return self._move(id, row.holder, row, row.amount)

    def hand_on(self, ids: Sequence[str], id: str, row: ReservationRow) -> Usage | None:
        """Make a reservation in place of those of `ids`, which may be gone. Raises as `reserve` and `close`."""
        before = dict(self._sums), dict(self._reservations), dict(self._held)
        try:
            for one in ids:
                self.close(one)
            return self.reserve(id, row)
        except GravitonError:
            self._sums, self._reservations, self._held = before
            raise

    def change(self, id: str, update: Callable[[ReservationRow], ReservationRow]) -> Usage | None:
        """Change a reservation; as `reserve`. Raises NotFound, StorageFull."""
        old = self._reservation(id)
        if old is None:
            raise _not_found(id)
        new = update(old)
        more = Amount(*(after - before for before, after in zip(old.amount, new.amount, strict=True)))
        return self._move(id, old.holder, new, more)

    def close(self, id: str, keys: Sequence[BlobKey] = (), now_ns: int | None = None) -> bool:
        """Take a reservation away, with `now_ns` only if its time is past by then, and enter what came of the blobs
        `keys` and of those that were promised. Whether it was done. Raises IntegrityError."""
        row = self._reservation(id)
        if row is None or (now_ns is not None and row.expires_at_ns > now_ns):
            return False
        self.settle(row.holder, row.domain, [*row.keys, *keys])
        self._move(id, row.holder, None, Amount(-row.amount.bytes, -row.amount.blobs))
        return True

    def settle(self, holder: str, domain: str, keys: Sequence[BlobKey]) -> None:
        """Let the books say of the blobs `keys` what the store says. Raises IntegrityError."""
        keys = list(dict.fromkeys(keys))
        if not keys:
            return
        places = [held_key(holder, domain, key) for key in keys]
        held = held_many(self._tx, domain, holder, keys)
        booked = self._booked(places)
        size = blobs = 0
        for place, key, was, is_now in zip(places, keys, booked, held, strict=True):
            if was != is_now:
                size, blobs = size + (key.size if is_now else -key.size), blobs + (1 if is_now else -1)
                self._held[place] = is_now
        [own] = self._sums_of(sums_key(holder))
        self._sums[sums_key(holder)] = own.held(Amount(size, blobs))

    def _reservation(self, id: str) -> ReservationRow | None:
        key = reservation_key(id)
        if key in self._reservations:
            return self._reservations[key]
        data = self._tx.get(RESERVATIONS, key)
        return None if data is None else ReservationRow.decode(data)

    def _sums_of(self, *keys: bytes) -> list[SumsRow]:
        missing = [key for key in keys if key not in self._sums]
        found = dict(zip(missing, self._tx.get_many(SUMS, missing), strict=True)) if missing else {}
        return [self._sums[key] if key in self._sums else decoded_sums(found[key]) for key in keys]

    def _booked(self, places: Sequence[bytes]) -> list[bool]:
        """Which rows of what is held there are."""
        found = self._tx.get_many(HELD, places)
        return [self._held.get(place, row is not None) for place, row in zip(places, found, strict=True)]

    def _move(self, id: str, holder: str, row: ReservationRow | None, more: Amount) -> Usage | None:
        """Let a reservation be `row`, which is `more` (or less) than before; what is used in all then, if a limit asks
        for it. Raises StorageFull."""
        used = self._reserve_more(id, holder, row, more) if any(more) else None
        self._reservations[reservation_key(id)] = row
        return used

    def _reserve_more(self, id: str, holder: str, row: ReservationRow | None, more: Amount) -> Usage | None:
        limits = self._limits
        kept, own = (sums.reserved(more) for sums in self._sums_of(ALL, sums_key(holder)))
        is_asked = any(one > 0 for one in more) and (limits.bytes is not None or limits.blobs is not None)
        if is_asked and self._stored is None:
            self._stored = totals_of_all_domains(self._tx)
        stored = self._stored or StoreTotals()
        whole = Usage(stored.logical_bytes, stored.blobs, kept.reserved_bytes, kept.reserved_blobs)
        try:
            _check_both(limits, whole, Usage(*own), more, holder)
        except StorageFull:  # what counts twice is only looked for where it matters
            rows = self._named_with(id, row)
            in_all = whole.less(self._twice_in_all(rows))
            _check_both(limits, in_all, Usage(*own).less(self._twice_for(holder, rows)), more, holder)
        self._sums |= {ALL: kept, sums_key(holder): own}
        return whole if is_asked else None

    def _named_with(self, id: str, row: ReservationRow | None) -> list[ReservationRow]:
        """All reservations that name blobs, this one as it is to be."""
        if self._named is None:
            decoded = ((key, ReservationRow.decode(data)) for key, data in self._tx.scan(RESERVATIONS))
            self._named = {key: one for key, one in decoded if one.keys}
        rows = {**self._named, **self._reservations, reservation_key(id): row}
        return [one for one in rows.values() if one is not None and one.names_all]

    def _twice_in_all(self, rows: Iterable[ReservationRow]) -> Amount:
        """What is reserved for blobs that are there, or that another of the reservations names."""
        seen: set[tuple[str, BlobKey]] = set()
        size = blobs = 0
        for row in rows:
            for key, is_there in zip(row.keys, self._there(row), strict=True):
                if is_there or (row.domain, key) in seen:
                    size, blobs = size + key.size, blobs + 1
                seen.add((row.domain, key))
        return Amount(size, blobs)

    def _there(self, row: ReservationRow) -> Sequence[bool]:
        try:
            return there_many(self._tx, row.domain, row.keys)
        except IntegrityError:  # told to whoever puts it, by its commit; here it only counts as not there
            return [False] * len(row.keys)

    def _twice_for(self, holder: str, rows: Iterable[ReservationRow]) -> Amount:
        """What is reserved for blobs that are in the holder's books, or that another of its reservations names."""
        seen: set[bytes] = set()
        size = blobs = 0
        for row in rows:
            if row.holder != holder:
                continue
            places = [held_key(holder, row.domain, key) for key in row.keys]
            for place, key, is_booked in zip(places, row.keys, self._booked(places), strict=True):
                if is_booked or place in seen:
                    size, blobs = size + key.size, blobs + 1
                seen.add(place)
        return Amount(size, blobs)


def _check_both(limits: QuotaLimits, whole: Usage, own: Usage, more: Amount, holder: str) -> None:
    """Raise StorageFull if what is used in all, or by the holder, is too much, `more` included."""
    _check(whole, more, limits.bytes, limits.blobs, "of all", "GRAVITON_QUOTA")
    _check(own, more, limits.holder_bytes, limits.holder_blobs, _called(holder), "GRAVITON_QUOTA_HOLDER")


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


def _not_found(id: str) -> NotFound:
    return NotFound(
        f"there is no reservation {id}",
        operation="quota",
        subject=id,
        hint="It was released, or its time was past and somebody needed the room: reserve anew.",
    )
