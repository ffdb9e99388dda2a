"""Sessions and claims as transactions: points 1 and 5 of docs/block-life.md.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again. Opening does its
work for a whole group of sessions with a few batched reads and writes: that is what makes many small blobs cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.errors import Conflict
from graviton.metadata.owners import check_open, first_kinds, load_open, load_owner, renewed, save_owner, unused_owners
from graviton.metadata.rows import (
    BLOCKS,
    CANDIDATES,
    CLAIMS,
    FIRST_CLAIM_BYTES,
    KEY_BYTES,
    OWNERS,
    REF_ROWS,
    REFS,
    RELIES,
    WRITES,
    BlockRow,
    OwnerRow,
    u64,
)
from graviton.ports.block_index import BlockState, Claim, OpenedSession, OwnerState
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = ["MAX_DROP", "MAX_FIRST_CLAIMS", "claim_more", "drop_some_claims", "end", "open_sessions"]

MAX_DROP = 1000
"""Claims taken away per transaction, so that no other writer waits for more than some milliseconds."""

MAX_FIRST_CLAIMS = 8
"""Claims kept inside the owner's row (336 bytes at most): a small blob then needs no row of `claims`, and no row of
`refs` is read or changed to confirm it."""


def open_sessions(
    tx: Transaction, domain: bytes, batches: Sequence[Sequence[BlockKey]], now_ns: int, lifetime_ns: int
) -> list[OpenedSession]:
    """Start a session per batch and claim its keys, as if one after the other."""
    first = unused_owners(tx, len(batches), now_ns)
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
    keys = [block[-KEY_BYTES:] for block in first_kinds(row._replace(first_claims=row.first_claims[:room]))]
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
