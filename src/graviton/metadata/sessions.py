"""Owners and claims as transactions: points 1, 2 and 5 of docs/block-life.md.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again. Each does its
work for a whole group of sessions with a few batched reads and writes: that is what makes many small blobs cheap.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.errors import Conflict, IntegrityError, InvalidInput
from graviton.metadata import totals
from graviton.metadata.rows import (
    BLOCKS,
    CANDIDATES,
    CLAIMS,
    CONFIRMED,
    FIRST_CLAIM_BYTES,
    KEY_BYTES,
    OWNERS,
    REF_ROWS,
    REFS,
    RELIES,
    WRITES,
    BlockRow,
    OwnerRow,
    decode_ref,
    u64,
)
from graviton.ports.block_index import BlockState, Claim, OpenedSession, OwnerState
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = [
    "Confirmed",
    "claim_more",
    "confirm",
    "confirm_some",
    "drop_some_claims",
    "end",
    "load_open",
    "load_owner",
    "load_owners",
    "open_sessions",
    "renewed",
    "save_owner",
]

_EPOCH_MS = 1_577_836_800_000
"""2020-01-01: leaves 41 bits of milliseconds (69 years) above the random bits of a positive 63-bit owner."""
_RANDOM_BITS = 21

MAX_DROP = 1000
"""Claims taken away per transaction, so that no other writer waits for more than some milliseconds."""

MAX_FIRST_CLAIMS = 8
"""Claims kept inside the owner's row (336 bytes at most): a small blob then needs no row of `claims`, and no row of
`refs` is read or changed to confirm it."""


def open_sessions(
    tx: Transaction, domain: bytes, batches: Sequence[Sequence[BlockKey]], now_ns: int, lifetime_ns: int
) -> list[OpenedSession]:
    """Start a session per batch and claim its keys, as if one after the other."""
    first = _unused_owners(tx, len(batches), now_ns)
    outcomes = _claim(tx, domain, [(first + place, keys) for place, keys in enumerate(batches)], are_new=True)
    expires_at_ns = now_ns + lifetime_ns
    rows: list[tuple[bytes, bytes]] = []
    for session, outcome in enumerate(outcomes, first):
        inside = outcome.first_claims() if len(outcome.taken) <= MAX_FIRST_CLAIMS else b""
        if not inside:
            outcome.save(tx, session)
        row = OwnerRow(OwnerState.OPEN, outcome.to_write, now_ns, expires_at_ns, lifetime_ns, domain, inside)
        rows.append((u64(session), row.encode()))
    tx.put_many(OWNERS, rows)
    return [OpenedSession(session, outcome.claims) for session, outcome in enumerate(outcomes, first)]


def claim_more(tx: Transaction, session: int, keys: Sequence[BlockKey], now_ns: int) -> list[Claim]:
    """Claim more keys for an open session. Raises Conflict."""
    row = load_open(tx, session)
    (outcome,) = _claim(tx, row.domain, [(session, keys)], are_new=False)
    outcome.save(tx, session)
    save_owner(tx, session, renewed(row, now_ns)._replace(unconfirmed=row.unconfirmed + outcome.to_write))
    return outcome.claims


def _unused_owners(tx: ReadTransaction, count: int, now_ns: int) -> int:
    """The first of `count` unused numbers in a row.

    Numbers begin with the time, so that rows of one owner are neighbours and new ones go to the end of the tree; the
    rest is random. Nothing relies on their order.
    """
    while True:
        since_epoch_ms = max(0, now_ns // 1_000_000 - _EPOCH_MS) & ((1 << (63 - _RANDOM_BITS)) - 1)
        first = (since_epoch_ms << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
        next_used = next(iter(tx.scan(OWNERS, b"", u64(first - 1) if first else None, 1)), None)
        is_free = next_used is None or int.from_bytes(next_used[0], "big") >= first + count
        if 0 < first < 2**63 - count and is_free:
            return first


class _Outcome(NamedTuple):
    """What claiming did for one session."""

    claims: list[Claim]
    taken: list[tuple[int, bytes]]
    """Kind and block (with domain) of each claim that the session did not hold before."""
    to_write: int

    def first_claims(self) -> bytes:
        """What was taken as it lies in the owner's row."""
        return b"".join([bytes((kind,)) + block[-KEY_BYTES:] for kind, block in self.taken])

    def save(self, tx: Transaction, session: int) -> None:
        """Write the row that remembers what was taken. Its key is unique: a session takes a block once."""
        if self.taken:
            keys = [block[-KEY_BYTES:] for _, block in self.taken]
            tx.put(CLAIMS, u64(session) + keys[0], b"".join(keys))


def _claim(
    tx: Transaction, domain: bytes, requests: Sequence[tuple[int, Sequence[BlockKey]]], are_new: bool
) -> list[_Outcome]:
    """Claim for each session its keys. `are_new`: the sessions hold nothing yet, which spares a lookup per key."""
    blocks = [[domain + key.to_bytes() for key in keys] for _, keys in requests]
    distinct = sorted({block for some in blocks for block in some})
    records = {
        block: BlockRow.decode(data)
        for block, data in zip(distinct, tx.get_many(BLOCKS, distinct), strict=True)
        if data is not None
    }
    held: set[bytes] = set() if are_new else _held_refs(tx, requests, blocks)
    changed: dict[bytes, bytes] = {}
    refs: dict[bytes, bytes] = {}
    outcomes = []
    for (session, keys), some in zip(requests, blocks, strict=True):
        owner = u64(session)
        claims, taken, to_write = [], [], 0
        for key, block in zip(keys, some, strict=True):
            ref = block + owner
            if ref in refs or ref in held:
                claims.append(Claim(key, False))
                continue
            old = records.get(block)
            if old is not None and old.state is BlockState.STORED:
                refs[ref] = REF_ROWS[RELIES]
                taken.append((RELIES, block))
                claims.append(Claim(key, False))
                continue
            records[block] = new = BlockRow(BlockState.PENDING, 1 if old is None else old.generation + 1)
            changed[block] = new.encode()
            refs[ref] = REF_ROWS[WRITES]
            taken.append((WRITES, block))
            claims.append(Claim(key, True, old is not None and old.state is BlockState.DAMAGED))
            to_write += 1
        outcomes.append(_Outcome(claims, taken, to_write))
    tx.put_many(BLOCKS, sorted(changed.items()))
    tx.put_many(REFS, sorted(refs.items()))
    return outcomes


def _held_refs(
    tx: ReadTransaction, requests: Sequence[tuple[int, Sequence[BlockKey]]], blocks: Sequence[Sequence[bytes]]
) -> set[bytes]:
    wanted = [block + u64(session) for (session, _), some in zip(requests, blocks, strict=True) for block in some]
    return {ref for ref, data in zip(wanted, tx.get_many(REFS, wanted), strict=True) if data is not None}


class Confirmed(NamedTuple):
    """What confirming does; the records of the blocks are written already."""

    owners: list[OwnerRow]
    """The changed row of each session, not yet written."""
    refs: list[tuple[bytes, bytes]]
    """Rows of claims to change, unless their owners stop being open in the same transaction."""
    added: totals.Sums
    """What that adds to the totals."""


def confirm(tx: Transaction, requests: Sequence[tuple[int, OwnerRow, Sequence[BlockKey]]]) -> Confirmed:
    """Turn the records of the blocks `keys` that each session had to write to stored. Raises InvalidInput for a key
    that its session has not claimed."""
    asked = [{row.domain + key.to_bytes() for key in keys} for _, row, keys in requests]
    inside = [_first_kinds(row) if blocks else {} for (_, row, _), blocks in zip(requests, asked, strict=True)]
    refs = sorted(
        block + u64(session)
        for (session, _, _), blocks, kinds in zip(requests, asked, inside, strict=True)
        for block in blocks
        if block not in kinds
    )
    kinds_outside = dict(zip(refs, tx.get_many(REFS, refs), strict=True))
    owners, changed, to_store = [], [], set()
    for (session, row, _), blocks, kinds in zip(requests, asked, inside, strict=True):
        count = 0
        for block in blocks:
            kind = kinds.get(block)
            if kind is None:
                ref = block + u64(session)
                kind = _kind_outside(ref, kinds_outside[ref])
                if kind == WRITES:
                    changed.append((ref, REF_ROWS[CONFIRMED]))
            elif kind == WRITES:
                kinds[block] = CONFIRMED
            if kind == WRITES:
                to_store.add(block)
                count += 1
        owners.append(_after_confirming(row, count, kinds))
    return Confirmed(owners, sorted(changed), _store(tx, sorted(to_store)))


def _first_kinds(row: OwnerRow) -> dict[bytes, int]:
    """The claims inside an owner's row: kind by block (with domain)."""
    claims, domain = row.first_claims, row.domain
    return {
        domain + claims[at + 1 : at + FIRST_CLAIM_BYTES]: claims[at] for at in range(0, len(claims), FIRST_CLAIM_BYTES)
    }


def _kind_outside(ref: bytes, data: bytes | None) -> int:
    if data is None:
        key, session = BlockKey.from_bytes(ref[-8 - KEY_BYTES : -8]), ref[-8:].hex()
        raise InvalidInput(f"block {key} was not claimed by session {session}", subject=key.text)
    return decode_ref(data)


def _after_confirming(row: OwnerRow, count: int, first_kinds: dict[bytes, int]) -> OwnerRow:
    if not count:
        return row
    if count > row.unconfirmed:
        raise IntegrityError("a session has confirmed more than it had to write", operation="confirm")
    claims = b"".join([bytes((kind,)) + block[-KEY_BYTES:] for block, kind in first_kinds.items()])
    return row._replace(unconfirmed=row.unconfirmed - count, first_claims=claims)


def _store(tx: Transaction, blocks: Sequence[bytes]) -> totals.Sums:
    """Turn the records of written blocks to stored; what that adds to the totals."""
    stored: list[tuple[bytes, bytes]] = []
    added = totals.Sums()
    for block, data in zip(blocks, tx.get_many(BLOCKS, blocks), strict=True):
        if data is None:
            raise IntegrityError("a claimed block has no record", subject=block[-KEY_BYTES:].hex())
        old = BlockRow.decode(data)
        # Whoever made it pending last, our bytes are durable under its name, and it has our claim.
        if old.state is BlockState.PENDING:
            stored.append((block, BlockRow(BlockState.STORED, old.generation).encode()))
            added.add(block[:-KEY_BYTES], blocks=1, stored_bytes=int.from_bytes(block[-8:], "big"))
    tx.put_many(BLOCKS, stored)
    return added


def confirm_some(tx: Transaction, session: int, keys: Sequence[BlockKey], now_ns: int) -> None:
    """Confirm claims of an open session, which stays open. Raises Conflict, InvalidInput."""
    done = confirm(tx, [(session, load_open(tx, session), keys)])
    tx.put_many(REFS, done.refs)
    save_owner(tx, session, renewed(done.owners[0], now_ns))
    done.added.write(tx, session)


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


def end(tx: Transaction, session: int, now_ns: int) -> bool:
    """Turn an open session to ended; whether it may have claims to be dropped. Raises Conflict for a committed one."""
    row = load_owner(tx, session)
    if row is None:
        return False
    if row.state is not OwnerState.ENDED:
        row = check_open(session, row)
        save_owner(tx, session, row.turned(OwnerState.ENDED, now_ns))
    return True


def drop_some_claims(tx: Transaction, owner: int, limit: int = MAX_DROP) -> int:
    """Take up to `limit` claims of an ended or dropped owner away and remember their blocks as candidates of garbage
    collection; how many. Fewer than `limit`: none is left.

    A dropped owner that lost a claim cannot be turned back. Raises Conflict for an owner whose claims are needed.
    """
    row = load_owner(tx, owner)
    if row is None:
        return 0
    if row.state not in (OwnerState.ENDED, OwnerState.DROPPED):
        raise Conflict(f"the owner {owner:x} is {row.state.name.lower()} and keeps its claims", subject=f"{owner:x}")
    room = limit * FIRST_CLAIM_BYTES
    keys = [block[-KEY_BYTES:] for block in _first_kinds(row._replace(first_claims=row.first_claims[:room]))]
    if keys or not row.losing_claims:
        save_owner(tx, owner, row._replace(first_claims=row.first_claims[room:], losing_claims=True))
    for place, value in list(tx.scan(CLAIMS, u64(owner), None, limit)):
        left = (limit - len(keys)) * KEY_BYTES
        if not left:
            break
        if len(value) > left:
            tx.put(CLAIMS, place, value[left:])
        else:
            tx.delete(CLAIMS, place)
        keys += [value[at : at + KEY_BYTES] for at in range(0, min(left, len(value)), KEY_BYTES)]
    blocks = sorted(row.domain + key for key in keys)
    tx.delete_many(REFS, [block + u64(owner) for block in blocks])
    tx.put_many(CANDIDATES, [(block, b"") for block in blocks])
    return len(blocks)
