"""`FrequencySketch`: about how often each key was asked for lately, also keys that are not in the cache.

A count-min sketch with conservative update, after Einziger, Friedman and Manes, "TinyLFU" (ACM ToS 2017): every key has
a counter in each of four rows, shared with other keys, and the least of the four is its count, never too low. When ten
uses were noted for every entry of the cache, all counters are halved, so what was popular once is not for ever.

The paper's doorkeeper, a Bloom filter for the first use of each key, is left out: with as many
columns it gained nothing on the fixed traces and lost up to 3 % of the hits (benchmarks/cache/README.md).
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

from graviton.errors import IntegrityError

__all__ = ["FrequencySketch"]

MAX_COUNT = 15
"""Uses that are told apart, as in the paper: with ten noted per entry between two halvings, few have more."""

SAMPLE = 10
"""Uses noted per entry until all counts are halved, as in the paper."""

COLUMNS_PER_ENTRY = 8
"""Counters in a row for every entry, at least: keys asked for between two halvings are several times as many as the
cache holds. With 4, 8 and 16 the hit ratio was 0.471, 0.473 and 0.474 on the trace `scans`, 0.507, 0.507 and 0.495 on
`loops`."""

_ROWS = 4
_LEAST_COLUMNS = 1 << 9
_PLACES = struct.Struct(">4I")
_HEADER = struct.Struct(">IQ")
_HALVES: Final = bytes(value >> 1 for value in range(256))


class FrequencySketch:
    """Grows with the cache: 32 to 64 bytes for each entry that it had at once. One thread."""

    def __init__(self, columns: int = _LEAST_COLUMNS) -> None:
        """`columns` is a power of two."""
        self._rows = [bytearray(columns) for _ in range(_ROWS)]
        self._columns = columns
        self._noted = 0
        self.is_changed = False
        """Whether anything was noted since it was made."""

    def note(self, key: bytes, entries: int) -> None:
        """`key` was asked for once more, of a cache with so many entries."""
        while self._columns < COLUMNS_PER_ENTRY * entries:  # what is twice as wide is what was there, twice
            self._rows = [row + row for row in self._rows]
            self._columns *= 2
        counters = self._counters(key)
        least = min(row[place] for row, place in counters)
        if least < MAX_COUNT:
            for row, place in counters:
                if row[place] == least:
                    row[place] += 1
        self.is_changed = True
        self._noted += 1
        if self._noted >= SAMPLE * max(entries, _LEAST_COLUMNS // COLUMNS_PER_ENTRY):
            self._rows = [row.translate(_HALVES) for row in self._rows]
            self._noted //= 2

    def count(self, key: bytes) -> int:
        """How often it was lately; with bad luck more, of keys that share all its counters."""
        return min(row[place] for row, place in self._counters(key))

    def _counters(self, key: bytes) -> list[tuple[bytearray, int]]:
        """The same in every process, so not by `hash`."""
        places = _PLACES.unpack(blake2b(key, digest_size=_PLACES.size).digest())
        return [(row, place & self._columns - 1) for row, place in zip(self._rows, places, strict=True)]

    def to_bytes(self) -> bytes:
        """All of it, for `from_bytes` of another process."""
        return b"".join((_HEADER.pack(self._columns, self._noted), *self._rows))

    @classmethod
    def from_bytes(cls, data: bytes) -> FrequencySketch:
        """Inverse of `to_bytes`. Raises IntegrityError."""
        columns, noted = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (0, 0)
        is_whole = columns >= _LEAST_COLUMNS and len(data) == _HEADER.size + _ROWS * columns
        if not is_whole or columns & columns - 1 or max(data[_HEADER.size :]) > MAX_COUNT:
            raise IntegrityError("the frequencies in the cache's index are damaged", operation="cache.index")
        sketch = cls(columns)
        sketch._noted = noted
        for number, row in enumerate(sketch._rows):
            row[:] = data[_HEADER.size + number * columns :][:columns]
        return sketch
