"""What is written: all changes of a group as one batch; and the error of one that had to wait too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rocksdict import WriteBatch

from graviton.backends.rocksdb._moments import Family
from graviton.backends.rocksdb._overlay import Table
from graviton.errors import Unavailable
from graviton.ports.kv import MAX_KEY_BYTES

__all__ = ["NAMESPACE_PREFIX", "Changes", "StalledError", "batch_of"]

NAMESPACE_PREFIX: Final = b"namespace/"
"""Keys of the default column family: the namespaces that exist, which a family alone does not say (a crash may come
between making it and the first write)."""

Changes = Mapping[str, Table]
"""By namespace."""

_BEHIND_ALL_KEYS: Final = b"\xff" * (MAX_KEY_BYTES + 1)


class StalledError(Exception):
    """RocksDB took no write for too long; nothing was written."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def told(self, path: str) -> Unavailable:
        return Unavailable(
            f"{path} took no writes for {self.seconds:.1f} s because compaction is behind",
            operation="kv.transact",
            subject=path,
            hint="The disk is too slow for so many writes, or busy; try again, or write less at once.",
        )


def batch_of(changes: Changes, fresh: Sequence[str], families: Mapping[str, Family]) -> WriteBatch:
    """One batch of all changes, which registers the namespaces in `fresh`."""
    batch = WriteBatch(raw_mode=True)
    for namespace in fresh:
        batch.put(NAMESPACE_PREFIX + namespace.encode("ascii"), b"")
    for namespace, table in changes.items():
        handle = families[namespace].handle
        for start, end in table.cleared:  # which know no default family, whatever rocksdict's help says
            batch.delete_range(start, _BEHIND_ALL_KEYS if end is None else end, handle)
        batch.set_default_column_family(handle)  # quicker than saying it with each pair
        for key, value in table.values.items():
            if value is None:
                del batch[key]
            else:
                batch[key] = value
    return batch
