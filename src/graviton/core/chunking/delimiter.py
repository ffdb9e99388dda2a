"""`delimiter-v1:hex:min:max`: a block ends right after an occurrence of a delimiter.

A block of at least `min` bytes ends at the first occurrence, or at `max`. The delimiter belongs to the block it ends.
Occurrences may overlap each other and straddle feeds. Because `min` is at least 64 and a delimiter at most 64 bytes
long, an occurrence that ends a block lies wholly inside it: one cut in two by a forced cut never counts.
"""

from __future__ import annotations

from graviton.core.chunking.spec import ChunkerSpec

__all__ = ["DelimiterCutter"]


class DelimiterCutter:
    """The cut rule of `delimiter-v1`. For records, lines and concatenated archives."""

    __slots__ = ("_delimiter", "_min_bytes", "max_bytes")

    def __init__(self, spec: ChunkerSpec) -> None:
        self.max_bytes = spec.max_bytes
        self._min_bytes = spec.min_bytes
        self._delimiter = spec.delimiter

    def cut(self, data: memoryview, seen: int, last: bool) -> int | None:
        """See `Cutter.cut`. Copies what it searches."""
        n = min(len(data), self.max_bytes)
        first_end = max(self._min_bytes, seen + 1)
        start = first_end - len(self._delimiter)
        at = bytes(data[start:n]).find(self._delimiter) if first_end <= n else -1
        if at >= 0:
            return start + at + len(self._delimiter)
        if last or n == self.max_bytes:
            return n or None
        return None
