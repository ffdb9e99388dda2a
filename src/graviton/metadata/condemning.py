"""Condemning blocks that nobody holds: point 6 of docs/block-life.md.

Every function runs inside a transaction it is given and touches nothing else, so it may be run again. Transactions are
serialisable: whoever claims a block does it before one that looks for claims, or after and sees it condemned.
"""

from __future__ import annotations

from collections.abc import Iterator

from graviton.errors import InvalidInput
from graviton.metadata import totals
from graviton.metadata.rows import (
    BLOCKS,
    CANDIDATES,
    KEY_BYTES,
    NOTES,
    REFS,
    RUN_BYTES,
    BlockRow,
    NoteRow,
    note_of,
)
from graviton.ports.block_index import MAX_OPEN_NOTES, BlockState, Condemned
from graviton.ports.kv import ReadTransaction, Transaction

__all__ = ["check_limit", "condemn"]


def check_limit(limit: int) -> int:
    """`limit` itself if that many candidates can be looked at. Raises InvalidInput."""
    if limit < 1:
        raise InvalidInput(f"a collector looks at one candidate or more, not {limit}", operation="condemn")
    return limit


def condemn(tx: Transaction, run: bytes, limit: int, now_ns: int) -> Condemned:
    """Condemn those of up to `limit` candidates that nobody holds, and take all of them off the list."""
    notes = {key: NoteRow.decode(data) for key, data in tx.scan(NOTES) if key[-RUN_BYTES:] == run}
    room = min(limit, MAX_OPEN_NOTES - len(notes))
    blocks = [block for block, _ in tx.scan(CANDIDATES, limit=room)] if room > 0 else []
    condemned: dict[bytes, bytes] = {}
    changed = totals.Sums()
    for block, row in _unheld(tx, blocks):
        new = BlockRow(BlockState.CONDEMNED, row.generation + 1)
        condemned[block] = new.encode()
        notes[block + run] = NoteRow(new.generation, now_ns)
        if row.state is BlockState.STORED:
            changed.add(block[:-KEY_BYTES], blocks=-1, stored_bytes=-int.from_bytes(block[-8:], "big"))
    tx.put_many(BLOCKS, list(condemned.items()))
    tx.put_many(NOTES, [(block + run, notes[block + run].encode()) for block in condemned])
    tx.delete_many(CANDIDATES, blocks)
    changed.write(tx, int.from_bytes(run[:8], "big"))
    return Condemned([note_of(key, notes[key]) for key in sorted(notes)], len(blocks) == max(room, 0))


def _unheld(tx: ReadTransaction, blocks: list[bytes]) -> Iterator[tuple[bytes, BlockRow]]:
    """Blocks without any claim, and their rows. One that is condemned already is nobody's any more: its note was
    forgotten."""
    for block, data in zip(blocks, tx.get_many(BLOCKS, blocks), strict=True):
        if data is not None and next(iter(tx.scan(REFS, block, None, 1)), None) is None:
            yield block, BlockRow.decode(data)
