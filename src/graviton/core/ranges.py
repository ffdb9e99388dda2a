"""Byte ranges inside the code: `Span`, half open, and `RangeSet`, a set of bytes kept as sorted disjoint spans.

Requests as people and HTTP write them ("first-last", inclusive) are in byte_range.py. Offsets are bytes from 0 to
`MAX_SIZE`. An *empty* span (start == end) is legal, because the whole of an empty blob is one; it holds no byte, so it
overlaps nothing, and a `RangeSet` never contains it as a piece. It is true as every span: `if span` asks whether there
is one.

A `RangeSet` is two arrays of 64-bit integers, starts and ends. Lookups bisect; adding or removing one span bisects and
then copies the arrays (a memory move, 16 bytes per span), touching no Python object per span.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from graviton.core._frozen import Frozen, set_field
from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput

__all__ = ["RangeSet", "Span"]


class Span(Frozen):
    """The bytes from `start` up to and not including `end`; ordered by (start, end)."""

    __slots__ = ("end", "start")
    __match_args__ = ("start", "end")
    start: int
    end: int

    def __init__(self, start: int, end: int) -> None:
        """Raises InvalidInput unless 0 <= start <= end <= MAX_SIZE."""
        if not 0 <= start <= end <= MAX_SIZE:
            raise InvalidInput(f"a span needs 0 <= start <= end <= {MAX_SIZE}, not {start} and {end}")
        set_field(self, "start", start)
        set_field(self, "end", end)

    @property
    def length(self) -> int:
        """Number of bytes; 0 for an empty span."""
        return self.end - self.start

    def contains(self, item: int | Span) -> bool:
        """Whether the byte at this offset, or every byte of this span, is inside; an empty span always is."""
        if isinstance(item, Span):
            return item.start == item.end or (self.start <= item.start and item.end <= self.end)
        return self.start <= item < self.end

    def overlaps(self, other: Span) -> bool:
        """Whether the two share at least one byte."""
        return max(self.start, other.start) < min(self.end, other.end)

    def touches(self, other: Span) -> bool:
        """Whether the two overlap or meet end to start, so that together they are one span."""
        return self.start <= other.end and other.start <= self.end

    def intersection(self, other: Span) -> Span | None:
        """The bytes in both; None if there are none."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Span(start, end) if start < end else None

    def subtract(self, other: Span) -> tuple[Span, ...]:
        """The bytes of this span that are not in `other`: no, one or two non-empty spans, in order."""
        if not self.overlaps(other):
            return (self,) if self.length else ()
        pieces = ((self.start, other.start), (other.end, self.end))
        return tuple(Span(start, end) for start, end in pieces if start < end)

    def __lt__(self, other: Span) -> bool:
        return (self.start, self.end) < (other.start, other.end)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and self.start == other.start and self.end == other.end

    def __hash__(self) -> int:
        return hash((self.start, self.end))

    def __str__(self) -> str:
        return f"[{self.start}, {self.end})"


class RangeSet:
    """An immutable set of byte offsets. Iterating gives its spans: sorted, non-empty, none touching another."""

    __slots__ = ("_ends", "_starts")
    _starts: array[int]
    _ends: array[int]

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """The union of `spans`, in any order and overlapping as they like: O(n log n)."""
        starts, ends = _merged(sorted((span.start, span.end) for span in spans if span.start < span.end))
        set_field(self, "_starts", starts)
        set_field(self, "_ends", ends)

    @classmethod
    def from_spans(cls, spans: Iterable[Span]) -> RangeSet:
        """Same as `RangeSet(spans)`."""
        return cls(spans)

    @classmethod
    def _of(cls, starts: array[int], ends: array[int]) -> RangeSet:
        made = cls.__new__(cls)
        set_field(made, "_starts", starts)
        set_field(made, "_ends", ends)
        return made

    # Lookups.

    def contains(self, item: int | Span) -> bool:
        """Whether the byte at this offset, or every byte of this span, is in the set: O(log n).

        An empty span is in every set.
        """
        start, end = (item.start, item.end) if isinstance(item, Span) else (item, item + 1)
        if start == end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and end <= self._ends[at]

    __contains__ = contains

    @property
    def covered_length(self) -> int:
        """Number of bytes in the set: O(n), two sums over arrays."""
        return sum(self._ends) - sum(self._starts)

    @property
    def bounds(self) -> Span | None:
        """The smallest span around everything; None for the empty set."""
        return Span(self._starts[0], self._ends[-1]) if self._starts else None

    def gaps(self, window: Span) -> Iterator[Span]:
        """The spans of `window` that are not covered, in order: O(log n) for the first and O(1) for each next."""
        at = window.start
        index = bisect_right(self._ends, at)
        while at < window.end:
            start = self._starts[index] if index < len(self._starts) else window.end
            if at < start:
                yield Span(at, min(start, window.end))
            at = self._ends[index] if index < len(self._ends) else window.end
            index += 1

    def next_gap(self, start: int, end: int = MAX_SIZE) -> Span | None:
        """The first and longest uncovered span within [start, end); None if all is covered: O(log n)."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and start < self._ends[index]:
            start = self._ends[index]
        if start >= end:
            return None
        index += 1
        until = self._starts[index] if index < len(self._starts) else end
        return Span(start, min(until, end))

    def __iter__(self) -> Iterator[Span]:
        return map(Span, self._starts, self._ends)

    def __len__(self) -> int:
        """Number of spans, not of bytes."""
        return len(self._starts)

    # Operations with one span: a bisect and a memory move.

    def add(self, span: Span) -> RangeSet:
        """The set with the bytes of `span`; itself if they are all there."""
        if self.contains(span):
            return self
        # Spans first..last-1 overlap the new one or meet it end to start: they become one.
        first, last = bisect_left(self._ends, span.start), bisect_right(self._starts, span.end)
        start, end = span.start, span.end
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        return self._spliced(first, last, array("q", (start,)), array("q", (end,)))

    def remove(self, span: Span) -> RangeSet:
        """The set without the bytes of `span`; itself if none is there."""
        # Spans first..last-1 share a byte with it: they leave at most a left and a right rest.
        first, last = bisect_right(self._ends, span.start), bisect_left(self._starts, span.end)
        if first >= last or not span.length:
            return self
        starts, ends = array("q"), array("q")
        if self._starts[first] < span.start:
            starts.append(self._starts[first])
            ends.append(span.start)
        if span.end < self._ends[last - 1]:
            starts.append(span.end)
            ends.append(self._ends[last - 1])
        return self._spliced(first, last, starts, ends)

    def _spliced(self, first: int, last: int, starts: array[int], ends: array[int]) -> RangeSet:
        new_starts, new_ends = self._starts[:], self._ends[:]
        new_starts[first:last] = starts
        new_ends[first:last] = ends
        return RangeSet._of(new_starts, new_ends)

    # Operations with another set: one pass over both, O(n + m).

    def union(self, other: RangeSet) -> RangeSet:
        """The bytes in either set."""
        pairs = list(zip(self._starts, self._ends, strict=True))
        pairs.extend(zip(other._starts, other._ends, strict=True))
        pairs.sort()  # two sorted runs: linear
        return RangeSet._of(*_merged(pairs))

    def intersection(self, other: RangeSet) -> RangeSet:
        """The bytes in both sets."""
        starts, ends = array("q"), array("q")
        a = b = 0
        while a < len(self._starts) and b < len(other._starts):
            start, end = max(self._starts[a], other._starts[b]), min(self._ends[a], other._ends[b])
            if start < end:
                starts.append(start)
                ends.append(end)
            if self._ends[a] < other._ends[b]:
                a += 1
            else:
                b += 1
        return RangeSet._of(starts, ends)

    def difference(self, other: RangeSet) -> RangeSet:
        """The bytes in this set that are not in `other`."""
        bounds = self.bounds
        return self if bounds is None else self.intersection(other.complement(bounds))

    def complement(self, window: Span) -> RangeSet:
        """The bytes of `window` that are not in this set."""
        starts, ends = array("q"), array("q")
        for gap in self.gaps(window):
            starts.append(gap.start)
            ends.append(gap.end)
        return RangeSet._of(starts, ends)

    __or__ = union
    __and__ = intersection
    __sub__ = difference

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a RangeSet is immutable")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._starts == other._starts and self._ends == other._ends

    def __hash__(self) -> int:
        return hash((self._starts.tobytes(), self._ends.tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return RangeSet._of, (self._starts, self._ends)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, list(self)[:8])) + (", …" if len(self) > 8 else "")
        return f"RangeSet({shown})"


def _merged(pairs: Iterable[tuple[int, int]]) -> tuple[array[int], array[int]]:
    """Sorted non-empty (start, end) pairs with overlapping and adjacent ones joined."""
    starts, ends = array("q"), array("q")
    for start, end in pairs:
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
