"""The rows of owners: find an unused number, load, check, save."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from graviton.core.keys import BlockKey
from graviton.errors import Conflict
from graviton.metadata.rows import FIRST_CLAIM_BYTES, OWNERS, OwnerRow, u64
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = [
    "FORGOTTEN_HINT",
    "check_open",
    "drawn_owner",
    "first_kinds",
    "load_open",
    "load_owner",
    "load_owners",
    "not_held",
    "not_open",
    "renewed",
    "save_owner",
    "unused_owners",
]

_EPOCH_MS = 1_577_836_800_000
"""2020-01-01: leaves 41 bits of milliseconds (69 years) above the random bits of a positive 63-bit owner."""
_RANDOM_BITS = 21

FORGOTTEN_HINT = "A database server that crashed may have forgotten it: start the put again."
"""For who finds that a session has not what its process was told it has."""


def unused_owners(tx: ReadTransaction, count: int, now_ns: int) -> int:
    """The first of `count` unused numbers in a row.

    Numbers begin with the time, so that rows of one owner are neighbours and new ones go to the end of the tree; the
    rest is random. Nothing relies on their order.
    """
    while True:
        first = drawn_owner(now_ns, count)
        next_used = next(iter(tx.scan(OWNERS, b"", u64(first - 1), 1)), None)
        if next_used is None or int.from_bytes(next_used[0], "big") >= first + count:
            return first


def drawn_owner(now_ns: int, count: int) -> int:
    """The first of `count` numbers in a row that are probably unused."""
    while True:
        since_epoch_ms = max(0, now_ns // 1_000_000 - _EPOCH_MS) & ((1 << (63 - _RANDOM_BITS)) - 1)
        first = (since_epoch_ms << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        if 0 < first < 2**63 - count:
            return first


def renewed(row: OwnerRow, now_ns: int) -> OwnerRow:
    """The row of a session that has just given a sign of life."""
    return row._replace(expires_at_ns=now_ns + row.lifetime_ns)


def load_owner(tx: ReadTransaction, owner: int) -> OwnerRow | None:
    """The row of an owner, or None."""
    data = tx.get(OWNERS, u64(owner))
    return None if data is None else OwnerRow.decode(data)


def load_owners(tx: ReadTransaction, owners: Sequence[int]) -> list[OwnerRow | None]:
    """The rows of many owners."""
    first = min(owners, default=0)
    if len(owners) > 1 and first and max(owners) - first < 2 * len(owners):
        # Opened together, as a group of small blobs is: neighbours, and one scan is cheaper than that many lookups.
        rows = dict(tx.scan(OWNERS, b"", u64(first - 1), max(owners) - first + 1))
        found = [rows.get(u64(owner)) for owner in owners]
    else:
        found = tx.get_many(OWNERS, [u64(owner) for owner in owners])
    return [None if data is None else OwnerRow.decode(data) for data in found]


def load_open(tx: ReadTransaction, session: int) -> OwnerRow:
    """The row of an open session. Raises Conflict: whatever else it is, it is final."""
    return check_open(session, load_owner(tx, session))


def check_open(session: int, row: OwnerRow | None) -> OwnerRow:
    """`row`, the one of `session`, if it is open. Raises Conflict."""
    if row is None or row.state is not OwnerState.OPEN:
        raise not_open(session, None if row is None else row.state)
    return row


def not_open(session: int, state: OwnerState | None) -> Conflict:
    """The error for a session that is something else, or (None) unknown."""
    return Conflict(
        f"the session {session:x} is {'unknown' if state is None else state.name.lower()}, not open",
        operation="session",
        subject=f"{session:x}",
        hint="Start the put again.",
    )


def not_held(session: int, block: BlockKey) -> Conflict:
    """The error for a block on which a session has no claim."""
    return Conflict(
        f"the session {session:x} does not hold block {block}",
        operation="session",
        subject=block.text,
        hint=FORGOTTEN_HINT,
    )


def save_owner(tx: Transaction, owner: int, row: OwnerRow) -> None:
    """Write the row of an owner."""
    tx.put(OWNERS, u64(owner), row.encode())


def first_kinds(row: OwnerRow) -> dict[bytes, int]:
    """The claims inside an owner's row: kind by block (with domain)."""
    claims, domain = row.first_claims, row.domain
    return {
        domain + claims[at + 1 : at + FIRST_CLAIM_BYTES]: claims[at] for at in range(0, len(claims), FIRST_CLAIM_BYTES)
    }
