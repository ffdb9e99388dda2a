"""What transactions have changed and the store has not yet: the newest values over it, with a way back."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from graviton.errors import LimitExceeded
from graviton.ports.kv import prefix_end

__all__ = ["MAX_TRANSACTION_BYTES", "ROW_BYTES", "Overlay", "Table", "merged"]

MAX_TRANSACTION_BYTES: Final = 64 * 1024 * 1024
"""Keys and values that one transaction may write, with `ROW_BYTES` for each row: they are held in memory until it
commits, twice at that moment."""
ROW_BYTES: Final = 100
"""What a row takes beside its key and value: two objects and a place in a dict, 87 bytes without a value and without a
way back. Five million rows of 12 bytes took 400 MiB when only their bytes counted."""


class _Absent:
    """What stands for "this transaction has not touched the key"."""


_ABSENT: Final = _Absent()


class Table:
    """The changes of one namespace; None stands for a key that was removed."""

    __slots__ = ("_added", "_keys", "cleared", "values")

    def __init__(self) -> None:
        self.cleared: list[tuple[bytes, bytes | None]] = []
        """Ranges of keys (from, to, or to the end) of which nothing that is stored is left; `values` lies over them."""
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

    def hides(self, key: bytes) -> bool:
        """Whether what is stored under `key` is gone with a range."""
        return any(start <= key and (end is None or key < end) for start, end in self.cleared)

    def between(self, prefix: bytes, after: bytes | None) -> Sequence[bytes]:
        """The changed keys that begin with `prefix` and are greater than `after`, in order."""
        keys = self._sorted()
        start = bisect_left(keys, prefix)
        if after is not None:
            start = max(start, bisect_right(keys, after))
        end = prefix_end(prefix)
        return keys[start : len(keys) if end is None else bisect_left(keys, end)]

    def within(self, start: bytes, end: bytes | None) -> Sequence[bytes]:
        """The changed keys of a range, in order."""
        keys = self._sorted()
        return keys[bisect_left(keys, start) : len(keys) if end is None else bisect_left(keys, end)]

    def _sorted(self) -> list[bytes]:
        if self._keys is None:
            self._keys = sorted(self.values)
            self._added.clear()
        elif self._added:
            self._keys += self._added
            self._keys.sort()  # nearly sorted already, which it makes use of
            self._added.clear()
        return self._keys


class Overlay:
    """Changes of the transactions of a group, one after the other. `begin` each, and `undo` one that failed."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.size = 0
        """Bytes of what was written, as `MAX_TRANSACTION_BYTES` counts them, of all that was not undone."""
        self._undo: list[tuple[str, bytes, bytes | _Absent | None]] = []
        self._cleared: list[str] = []
        """Namespaces of which a range was removed, once for each."""
        self._made: set[str] = set()
        self._size_before = 0

    def begin(self) -> None:
        """From here on is the next transaction."""
        self._undo.clear()
        self._cleared.clear()
        self._made.clear()
        self._size_before = self.size

    def undo(self) -> None:
        """Take back what was changed since `begin`."""
        for namespace in self._cleared:
            self.tables[namespace].cleared.pop()
        for namespace in self._made:
            del self.tables[namespace]
        for namespace, key, before in reversed(self._undo):
            self.tables[namespace].restore(key, before)
        self.size = self._size_before
        self.begin()

    def set(self, namespace: str, pairs: Sequence[tuple[bytes, bytes | None]], size: int) -> None:
        """Change keys, which have `size` bytes with their values; None removes one. Raises LimitExceeded."""
        self._account(size + ROW_BYTES * len(pairs))
        table = self._table(namespace)
        if namespace not in self._made:  # else it goes as a whole
            self._undo += ((namespace, key, table.values.get(key, _ABSENT)) for key, _ in pairs)
        table.set(pairs)

    def clear(self, namespace: str, start: bytes, end: bytes | None) -> None:
        """Remove a range of keys. Raises LimitExceeded."""
        self._account(len(start) + len(end or b"") + ROW_BYTES)
        table = self._table(namespace)
        changed = table.within(start, end)
        if changed:
            self.set(namespace, [(key, None) for key in changed], 0)
        table.cleared.append((start, end))
        self._cleared.append(namespace)

    def _account(self, size: int) -> None:
        if self.size + size - self._size_before > MAX_TRANSACTION_BYTES:
            raise LimitExceeded(
                f"a transaction writes at most {MAX_TRANSACTION_BYTES} bytes here, {ROW_BYTES} counted for each row"
                " beside its key and value",
                operation="kv.transact",
                hint="Do it in several transactions.",
            )
        self.size += size

    def _table(self, namespace: str) -> Table:
        table = self.tables.get(namespace)
        if table is None:
            table = self.tables[namespace] = Table()
            self._made.add(namespace)
        return table

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
