"""Where a stream would be cut, and how the sizes are distributed; stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graviton.core.buffers import Buffer
from graviton.core.chunking import Chunker, ChunkerSpec

__all__ = ["Bucket", "CutSurvey", "cuts_of"]


def cuts_of(chunker: Chunker, pieces: Iterable[Buffer]) -> Iterator[int]:
    """The lengths of all chunks of a stream, in order, while it is read."""
    for piece in pieces:
        yield from chunker.feed(piece)
    yield from chunker.finish()


class Bucket(NamedTuple):
    """Chunks of a range of sizes."""

    low: int
    """Smallest size, in bytes."""
    high: int
    """Largest size."""
    chunks: int


class CutSurvey:
    """Counts chunk sizes in constant memory."""

    def __init__(self, spec: ChunkerSpec) -> None:
        self._spec = spec
        self._by_width: dict[int, int] = {}
        self.count = self.size = self.min = self.max = self.forced = 0
        """Chunks, bytes, smallest, largest; chunks that ended only because they reached the largest size allowed."""

    def add(self, length: int) -> None:
        """Count one chunk."""
        self.min = min(self.min, length) if self.count else length
        self.max = max(self.max, length)
        self.count += 1
        self.size += length
        self.forced += length == self._spec.max_bytes and self._spec.min_bytes < self._spec.max_bytes
        width = length.bit_length()
        self._by_width[width] = self._by_width.get(width, 0) + 1

    @property
    def mean(self) -> float:
        """Bytes; 0 without chunks."""
        return self.size / self.count if self.count else 0.0

    def buckets(self) -> list[Bucket]:
        """Chunks by power of two, from the smallest to the largest seen, empty ones in between included."""
        if not self._by_width:
            return []
        widths = range(min(self._by_width), max(self._by_width) + 1)
        return [Bucket(1 << width - 1, (1 << width) - 1, self._by_width.get(width, 0)) for width in widths]
