"""Column families, and the moments between two writes (_database.py has the protocol)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rocksdict import ColumnFamily, Rdict

from graviton.backends.rocksdb._cursor import Cursor

__all__ = ["Family", "Moment"]


class Family:
    """The column family of one namespace. Whoever keeps it keeps nothing of RocksDB once it is closed."""

    __slots__ = ("data", "handle")

    def __init__(self, root: Rdict, data: Rdict, name: str) -> None:
        self.data = data
        self.handle: ColumnFamily | None = root.get_column_family_handle(name)

    def close(self) -> None:
        """Write its memtable out. Raises what RocksDB says."""
        self.handle = None
        self.data.close()


class Moment:
    """What views that began between two writes see."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self.families = families
        """The namespaces that exist then."""
        self.pinned: dict[str, Cursor] = {}
        """Namespaces that were changed since, as they were."""
        self.views = 0

    def forget(self) -> None:
        """Nobody looks any more."""
        self.families = MappingProxyType({})
        self.pinned.clear()
