"""Owners and claims as transactions: points 1, 2 and 5 of docs/block-life.md, one function each.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.errors import Conflict, IntegrityError, InvalidInput
from graviton.metadata.rows import (
    BLOCKS,
    CANDIDATES,
    CLAIMS,
    CONFIRMED,
    KEY_BYTES,
    OWNERS,
    REFS,
    RELIES,
    WRITES,
    BlockRow,
    OwnerRow,
    RefRow,
    u64,
)
from graviton.ports.block_index import BlockState, Claim, OwnerState
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import StoreTotals

__all__ = ["SessionTime", "claim", "confirm", "drop_some_claims", "end", "load_open", "new_owner"]

_EPOCH_MS = 1_577_836_800_000
"""2020-01-01: leaves 41 bits of milliseconds (69 years) above the random bits of a positive 63-bit owner."""
_RANDOM_BITS = 21

MAX_DROP = 1000
"""Claims taken away per transaction, so that no other writer waits for more than some milliseconds."""


class SessionTime(NamedTuple):
    """The clock as one transaction sees it."""

    now_ns: int
    lifetime_ns: int

    @property
    def expires_at_ns(self) -> int:
        """When a session that was active just now may be taken for dead."""
        return self.now_ns + self.lifetime_ns


def new_owner(tx: Transaction, time: SessionTime, domain: bytes) -> tuple[int, OwnerRow]:
    """Pick an unused owner number and the row of a new open session (not yet written).

    Numbers begin with the time, so that rows of one owner are neighbours and new ones go to the end of the tree; the
    rest is random. Nothing relies on their order.
    """
    while True:
        since_epoch_ms = max(0, time.now_ns // 1_000_000 - _EPOCH_MS) & ((1 << (63 - _RANDOM_BITS)) - 1)
        owner = (since_epoch_ms << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        if owner and tx.get(OWNERS, u64(owner)) is None:
            return owner, OwnerRow(OwnerState.OPEN, 0, time.now_ns, time.expires_at_ns, domain)


def load_owner(tx: ReadTransaction, owner: int) -> OwnerRow | None:
    """The row of an owner, or None."""
    data = tx.get(OWNERS, u64(owner))
    return None if data is None else OwnerRow.decode(data)


def load_open(tx: ReadTransaction, session: int) -> OwnerRow:
    """The row of an open session. Raises Conflict: whatever else it is, it is final."""
    row = load_owner(tx, session)
    if row is None or row.state is not OwnerState.OPEN:
        state = "unknown" if row is None else row.state.name.lower()
        raise Conflict(
            f"the session {session:x} is {state}, not open",
            operation="session",
            subject=f"{session:x}",
            hint="Start the put again.",
        )
    return row


def save_owner(tx: Transaction, owner: int, row: OwnerRow) -> None:
    """Write the row of an owner."""
    tx.put(OWNERS, u64(owner), row.encode())


def claim(
    tx: Transaction, session: int, row: OwnerRow, keys: Sequence[BlockKey], is_new: bool
) -> tuple[OwnerRow, list[Claim]]:
    """Claim `keys` for the open session `row`; the changed row (not yet written) and the outcomes in the order given.

    `is_new` says that the session has no claims yet, which spares a lookup per key.
    """
    distinct = sorted({row.domain + key.to_bytes() for key in keys})
    owner = u64(session)
    refs = [block + owner for block in distinct]
    held = [None] * len(refs) if is_new else tx.get_many(REFS, refs)
    fresh = [block for block, ref in zip(distinct, held, strict=True) if ref is None]
    outcome = dict.fromkeys(distinct, (False, False))
    new_blocks: list[tuple[bytes, bytes]] = []
    new_refs: list[tuple[bytes, bytes]] = []
    for block, data in zip(fresh, tx.get_many(BLOCKS, fresh), strict=True):
        old = None if data is None else BlockRow.decode(data)
        if old is not None and old.state is BlockState.STORED:
            new_refs.append((block + owner, RefRow(RELIES, old.generation).encode()))
            continue
        generation = 1 if old is None else old.generation + 1
        outcome[block] = (True, old is not None and old.state is BlockState.DAMAGED)
        new_blocks.append((block, BlockRow(BlockState.PENDING, generation).encode()))
        new_refs.append((block + owner, RefRow(WRITES, generation).encode()))
    tx.put_many(BLOCKS, new_blocks)
    tx.put_many(REFS, new_refs)
    if fresh:
        first = fresh[0][-KEY_BYTES:]  # unique among the session's batches: each block is claimed once
        tx.put(CLAIMS, owner + first, b"".join(block[-KEY_BYTES:] for block in fresh))
    return row._replace(unconfirmed=row.unconfirmed + len(new_blocks)), _in_order(row.domain, keys, outcome)


def _in_order(domain: bytes, keys: Sequence[BlockKey], outcome: dict[bytes, tuple[bool, bool]]) -> list[Claim]:
    """Only the first occurrence of a key has to be written."""
    claims = []
    for key in keys:
        block = domain + key.to_bytes()
        claims.append(Claim(key, *outcome[block]))
        outcome[block] = (False, False)
    return claims


def confirm(tx: Transaction, session: int, row: OwnerRow, keys: Sequence[BlockKey]) -> tuple[OwnerRow, StoreTotals]:
    """Turn the session's own claims on `keys` to confirmed and their records to stored; the changed row (not yet
    written) and what that adds to the totals. Raises InvalidInput for a key the session has not claimed."""
    blocks = sorted({row.domain + key.to_bytes() for key in keys})
    owner = u64(session)
    refs = [RefRow.decode(data) if data else None for data in tx.get_many(REFS, [block + owner for block in blocks])]
    written = []
    for block, ref in zip(blocks, refs, strict=True):
        if ref is None:
            key = BlockKey.from_bytes(block[-KEY_BYTES:])
            raise InvalidInput(f"block {key} was not claimed by session {session:x}", subject=key.text)
        if ref.kind == WRITES:
            written.append((block, ref.generation))
    new_blocks = []
    added_bytes = 0
    for (block, _), data in zip(written, tx.get_many(BLOCKS, [block for block, _ in written]), strict=True):
        if data is None:
            raise IntegrityError("a claimed block has no record", subject=block[-KEY_BYTES:].hex())
        old = BlockRow.decode(data)
        if old.state is BlockState.PENDING:
            new_blocks.append((block, BlockRow(BlockState.STORED, old.generation).encode()))
            added_bytes += int.from_bytes(block[-8:], "big")
    tx.put_many(BLOCKS, new_blocks)
    tx.put_many(REFS, [(block + owner, RefRow(CONFIRMED, generation).encode()) for block, generation in written])
    added = StoreTotals(blocks=len(new_blocks), stored_bytes=added_bytes)
    return row._replace(unconfirmed=row.unconfirmed - len(written)), added


def end(tx: Transaction, session: int, now_ns: int) -> OwnerRow | None:
    """Turn an open session to ended; None if there is nothing to do. Raises Conflict for a committed one."""
    row = load_owner(tx, session)
    if row is None or row.state is OwnerState.ENDED:
        return row
    if row.state is not OwnerState.OPEN:
        load_open(tx, session)  # raises, saying what it is
    row = row._replace(state=OwnerState.ENDED, changed_at_ns=now_ns)
    save_owner(tx, session, row)
    return row


def drop_some_claims(tx: Transaction, owner: int, row: OwnerRow) -> bool:
    """Take up to `MAX_DROP` claims of an ended or dropped owner away and remember their blocks as candidates of
    garbage collection; whether there are more."""
    prefix = u64(owner)
    left = MAX_DROP
    for key, value in list(tx.scan(CLAIMS, prefix, None, MAX_DROP)):
        blocks = [row.domain + value[at : at + KEY_BYTES] for at in range(0, len(value), KEY_BYTES)]
        now, later = blocks[:left], blocks[left:]
        tx.delete_many(REFS, [block + prefix for block in now])
        tx.put_many(CANDIDATES, [(block, b"") for block in now])
        if later:
            tx.put(CLAIMS, key, b"".join(block[-KEY_BYTES:] for block in later))
            return True
        tx.delete(CLAIMS, key)
        left -= len(now)
        if not left:
            return True
    return False
