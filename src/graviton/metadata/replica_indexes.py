"""The indexes of the replica index made anew from the copies, as a restore does, which takes none from a backup.

Backends with indexes of their own have no such rows, and their backups none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from graviton.metadata.replica_rows import BY_BUCKET, BY_LIVE, BY_VERIFIED, REPLICAS, Copy, decode_copy, index_rows
from graviton.metadata.rows import KEY_BYTES
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

__all__ = ["REPLICA_INDEXES", "rebuild_replica_indexes"]

REPLICA_INDEXES = (BY_BUCKET, BY_LIVE, BY_VERIFIED)
"""Namespaces whose rows follow from those of `replicas`."""

_ROWS = 1000
"""Copies looked at per transaction."""

_ID_BYTES = 16


async def rebuild_replica_indexes(kv: KeyValueStore, check: Callable[[Transaction], None]) -> None:
    """Write all rows of the indexes, which are empty. `check` is called in each transaction, and may raise."""
    after: bytes | None = None
    while True:
        rows = await kv.read(partial(_whole_keys, after=after))
        if not rows:
            return
        after = rows[-1][0]

        def run(tx: Transaction, rows: Sequence[tuple[bytes, bytes]] = rows) -> None:
            check(tx)
            made: dict[str, dict[bytes, bytes]] = {name: {} for name in REPLICA_INDEXES}
            for key, copies in _by_key(rows).items():
                for namespace, place, value in index_rows(key, copies):
                    if namespace in made:
                        made[namespace][place] = value
            for namespace, items in made.items():
                tx.put_many(namespace, sorted(items.items()))

        await kv.transact(run, Durability.RELAXED)


def _whole_keys(tx: ReadTransaction, after: bytes | None) -> list[tuple[bytes, bytes]]:
    """The next copies, with all of the last key."""
    rows = list(tx.scan(REPLICAS, b"", after, _ROWS))
    return rows + list(tx.scan(REPLICAS, rows[-1][0][:KEY_BYTES], rows[-1][0])) if rows else []


def _by_key(rows: Sequence[tuple[bytes, bytes]]) -> dict[bytes, list[Copy]]:
    copies: dict[bytes, list[Copy]] = {}
    for place, data in rows:
        copies.setdefault(place[:-_ID_BYTES], []).append(decode_copy(place[-_ID_BYTES:], data))
    return copies
