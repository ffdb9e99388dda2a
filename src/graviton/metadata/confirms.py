"""Confirming: blocks that are durable become stored, point 2 of docs/block-life.md, for a group of sessions at once.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError
from graviton.metadata import totals
from graviton.metadata.owners import first_kinds, load_open, not_held, renewed, save_owner
from graviton.metadata.rows import (
    BLOCKS,
    CONFIRMED,
    KEY_BYTES,
    REF_ROWS,
    REFS,
    WRITES,
    BlockRow,
    OwnerRow,
    decode_ref,
    u64,
)
from graviton.ports.block_index import BlockState
from graviton.ports.kv import Transaction

__all__ = ["Confirmed", "confirm", "confirm_some"]


class Confirmed(NamedTuple):
    """What confirming does; the records of the blocks are written already."""

    owners: list[OwnerRow]
    """The changed row of each session, not yet written."""
    refs: list[tuple[bytes, bytes]]
    """Rows of claims to change, unless their owners stop being open in the same transaction."""
    added: totals.Sums
    """What that adds to the totals."""


def confirm(tx: Transaction, requests: Sequence[tuple[int, OwnerRow, Sequence[BlockKey]]]) -> Confirmed:
    """Turn the records of the blocks `keys` that each session had to write to stored. Raises Conflict for a key that
    its session does not hold."""
    asked = [{row.domain + key.to_bytes() for key in keys} for _, row, keys in requests]
    inside = [first_kinds(row) if blocks else {} for (_, row, _), blocks in zip(requests, asked, strict=True)]
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


def _kind_outside(ref: bytes, data: bytes | None) -> int:
    if data is None:
        raise not_held(int.from_bytes(ref[-8:], "big"), BlockKey.from_bytes(ref[-8 - KEY_BYTES : -8]))
    return decode_ref(data)


def _after_confirming(row: OwnerRow, count: int, kinds: dict[bytes, int]) -> OwnerRow:
    if not count:
        return row
    if count > row.unconfirmed:
        raise IntegrityError("a session has confirmed more than it had to write", operation="confirm")
    claims = b"".join([bytes((kind,)) + block[-KEY_BYTES:] for block, kind in kinds.items()])
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
    """Confirm claims of an open session, which stays open. Raises Conflict."""
    done = confirm(tx, [(session, load_open(tx, session), keys)])
    tx.put_many(REFS, done.refs)
    save_owner(tx, session, renewed(done.owners[0], now_ns))
    done.added.write(tx, session)
