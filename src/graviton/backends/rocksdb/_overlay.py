"""What transactions have changed and the store has not yet: the newest values over it, with a way back."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from graviton.errors import LimitExceeded
from graviton.ports.kv import prefix_end

__all__ = ["MAX_TRANSACTION_BYTES", "Overlay", "merged"]

MAX_TRANSACTION_BYTES: Final = 64 * 1024 * 1024
"""Keys and values that one transaction may write: they are held in memory until it commits, twice at that moment."""


class _Absent:
    """What stands for "this transaction has not touched the key"."""


_ABSENT: Final = _Absent()


class _Table:
    """The changes of one namespace; None stands for a key that was removed."""

    __slots__ = ("_added", "_keys", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}
        self._keys: list[bytes] | None = None
        """All keys in order but those in `_added`, once somebody has scanned."""
        self._added: list[bytes] = []

    def set(self, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        if self._keys is not None:
            self._added += {key for key, _ in pairs if key not in self.values}
        self.values.update(pairs)

    def restore(self, key: bytes, before: bytes | _Absent | None) -> None:
        if isinstance(before, _Absent):
            self.values.pop(key, None)
            self._keys = None
        else:
            self.values[key] = before

    def between(self, prefix: bytes, after: bytes | None) -> Sequence[bytes]:
        """The changed keys that begin with `prefix` and are greater than `after`, in order."""
        if self._keys is None:
            self._keys = sorted(self.values)
            self._added.clear()
        elif self._added:
            self._keys += self._added
            self._keys.sort()  # nearly sorted already, which it makes use of
            self._added.clear()
        start = bisect_left(self._keys, prefix)
        if after is not None:
            start = max(start, bisect_right(self._keys, after))
        end = prefix_end(prefix)
        return self._keys[start : len(self._keys) if end is None else bisect_left(self._keys, end)]


class Overlay:
    """Changes of the transactions of a group, one after the other. `begin` each, and `undo` one that failed."""

    def __init__(self) -> None:
        self.tables: dict[str, _Table] = {}
        self.size = 0
        """Bytes of keys and values written, of all that were not undone."""
        self._undo: list[tuple[str, bytes, bytes | _Absent | None]] = []
        self._made: set[str] = set()
        self._size_before = 0

    def begin(self) -> None:
        """From here on is the next transaction."""
        self._undo.clear()
        self._made.clear()
        self._size_before = self.size

    def undo(self) -> None:
        """Take back what was changed since `begin`."""
        for namespace in self._made:
            del self.tables[namespace]
        for namespace, key, before in reversed(self._undo):
            self.tables[namespace].restore(key, before)
        self.size = self._size_before
        self.begin()

    def set(self, namespace: str, pairs: Sequence[tuple[bytes, bytes | None]], size: int) -> None:
        """Change keys, which have `size` bytes with their values; None removes one. Raises LimitExceeded."""
        if self.size + size - self._size_before > MAX_TRANSACTION_BYTES:
            raise LimitExceeded(
                f"a transaction writes at most {MAX_TRANSACTION_BYTES} bytes here",
                operation="kv.transact",
                hint="Do it in several transactions.",
            )
        table = self.tables.get(namespace)
        if table is None:
            table = self.tables[namespace] = _Table()
            self._made.add(namespace)
        elif namespace not in self._made:  # else it goes as a whole
            self._undo += ((namespace, key, table.values.get(key, _ABSENT)) for key, _ in pairs)
        table.set(pairs)
        self.size += size

    def between(self, namespace: str, prefix: bytes, after: bytes | None) -> Iterator[tuple[bytes, bytes | None]]:
        """Changed keys in order, as of the call, with their value."""
        table = self.tables.get(namespace)
        if table is None:
            return iter(())
        return ((key, table.values.get(key)) for key in table.between(prefix, after))


def merged(
    stored: Iterator[tuple[bytes, bytes]], changed: Iterator[tuple[bytes, bytes | None]]
) -> Iterator[tuple[bytes, bytes]]:
    """Both in the order of keys; what was changed hides what is stored."""
    one = next(stored, None)
    for key, value in changed:
        while one is not None and one[0] < key:
            yield one
            one = next(stored, None)
        if one is not None and one[0] == key:
            one = next(stored, None)
        if value is not None:
            yield key, value
    while one is not None:
        yield one
        one = next(stored, None)
