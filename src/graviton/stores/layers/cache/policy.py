"""`WTinyLfu`: which entry goes when there is no room.

After Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy" (ACM ToS 2017), with sizes in
bytes. A new entry comes into a small *window*. When that is full and there is no room, the one in the window that was
used least recently is compared with the next to go from the main part: who was asked for more often lately stays, the
other goes. So one pass over everything goes through the window and throws out nothing that is read again. The main part
is a segmented LRU: entries wait in *probation*, and are *protected* from their next use on, until more recently used
ones take their place. How often a key was asked for, also one that is gone, is what `FrequencySketch` knows.

Why this one: docs/decisions/0040-cache-eviction.md. A hit moves an entry, but not at once: readers add the key to a log
and go on, with no lock, and the thread that evicts takes account of it before it decides anything.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple

from graviton.stores.layers.cache.sketch import FrequencySketch

__all__ = ["Entry", "Eviction", "Segment", "WTinyLfu"]

WINDOW_SHARE = 0.02
"""Part of the bytes for the window. Measured from 1, the paper's, to 10 %: wider ones lose loops, and gain where only
what was read last is read next (benchmarks/cache/README.md)."""

PROTECTED_SHARE = 0.8
"""Part of the main part that is protected at most, as in the paper."""

MAX_UNLEARNT_HITS = 1 << 13
"""Hits in the log, at most; beyond that the oldest are forgotten. That takes so many hits without anything fetched and
cached in between, when nothing need go either. Some 100 bytes each."""


class Segment(IntEnum):
    """Where an entry is; all but gone are stored values."""

    GONE = 0
    WINDOW = 1
    PROBATION = 2
    PROTECTED = 3


class Entry:
    """One thing in the cache."""

    __slots__ = ("charge", "key", "number", "recorded", "segment")

    def __init__(self, key: bytes, charge: int, segment: Segment, number: int = 0) -> None:
        self.key = key
        self.charge = charge
        """Bytes it takes."""
        self.segment = segment
        self.number = number
        """Its place in the order in which entries became the youngest of their segment."""
        self.recorded = number
        """The number as the keeper last wrote it down: hits, which he is not told of, make the difference."""


class Eviction(NamedTuple):
    """What is to go."""

    entry: Entry
    segment: Segment
    """Where it was."""


class _Lru:
    """The entries of a segment, the least recently used first."""

    def __init__(self) -> None:
        self.bytes = 0
        self.entries: OrderedDict[bytes, Entry] = OrderedDict()

    @property
    def oldest(self) -> Entry | None:
        """The next to go."""
        return next(iter(self.entries.values()), None)

    def append(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        self.bytes += entry.charge

    def remove(self, entry: Entry) -> None:
        del self.entries[entry.key]
        self.bytes -= entry.charge


class WTinyLfu:
    """The entries and their order. `hit` may be called by any thread, everything else by one."""

    def __init__(
        self, limit: int, changed: Callable[[Entry], None] | None = None, window_share: float = WINDOW_SHARE
    ) -> None:
        """`limit` in bytes: what the caller keeps `used` below, by evicting before he adds. `changed` is told of every
        entry that is added, gets into another segment, or is gone."""
        self.limit = limit
        self.frequencies = FrequencySketch()
        self._window_limit = int(limit * window_share)
        self._main_limit = limit - self._window_limit
        self._protected_limit = int(self._main_limit * PROTECTED_SHARE)
        self._changed = changed or _ignore
        self._segments: dict[Segment, _Lru] = {kind: _Lru() for kind in Segment if kind is not Segment.GONE}
        self._window = self._segments[Segment.WINDOW]
        self._probation = self._segments[Segment.PROBATION]
        self._protected = self._segments[Segment.PROTECTED]
        self._number = 0
        self._hits: deque[bytes] = deque(maxlen=MAX_UNLEARNT_HITS)

    def __len__(self) -> int:
        return sum(len(segment.entries) for segment in self._segments.values())

    def __contains__(self, key: bytes) -> bool:
        return self._find(key) is not None

    def __iter__(self) -> Iterator[Entry]:
        """All entries, segment by segment, each from the one that goes first."""
        for segment in self._segments.values():
            yield from segment.entries.values()

    @property
    def used(self) -> int:
        """Bytes of all entries."""
        return self._window.bytes + self._main_bytes

    @property
    def _main_bytes(self) -> int:
        return self._probation.bytes + self._protected.bytes

    def hit(self, key: bytes) -> None:
        """Note that `key` was used, whether there is such an entry or not."""
        self._hits.append(key)

    def learn(self) -> None:
        """Take account of the hits until now."""
        while self._hits:
            key = self._hits.popleft()
            self.frequencies.note(key, len(self))
            entry = self._find(key)
            if entry is not None:
                self._move(entry, Segment.WINDOW if entry.segment is Segment.WINDOW else Segment.PROTECTED)
                self._balance()

    def add(self, key: bytes, charge: int) -> None:
        """A new entry, the youngest in the window."""
        self.learn()
        entry = Entry(key, charge, Segment.GONE)
        self._move(entry, Segment.WINDOW)
        self.frequencies.note(key, len(self))
        self._balance()

    def restore(self, entry: Entry) -> None:
        """An entry as it was before a restart, after all with smaller numbers. Of this `changed` is not told."""
        assert entry.key not in self, "the keeper looks first"
        self._segments[entry.segment].append(entry)
        self._number = max(self._number, entry.number)

    def evict(self) -> Eviction | None:
        """Take out the entry that is to go next; None if there is none. `take_back` undoes it."""
        self.learn()
        loser = self._loser()
        if loser is None:
            return None
        segment = loser.segment
        self._move(loser, Segment.GONE)
        return Eviction(loser, segment)

    def take_back(self, eviction: Eviction) -> None:
        """An entry whose removal failed: it still takes room, and is tried again after the others."""
        self._move(eviction.entry, eviction.segment)

    def remove(self, key: bytes) -> None:
        """Take out an entry that is no good, if it is there."""
        entry = self._find(key)
        if entry is not None:
            self._move(entry, Segment.GONE)

    def _loser(self) -> Entry | None:
        """Of the next to leave the window and the next to go from the main part the one less asked for. The newcomer,
        for whom there is to be room, counts as one in the window, which therefore is full."""
        candidate, victim = self._window.oldest, self._probation.oldest or self._protected.oldest
        if candidate is None or victim is None:
            return candidate or victim
        if self._main_bytes > self._main_limit:  # the limit was lowered
            return victim
        count = self.frequencies.count
        return victim if count(candidate.key) > count(victim.key) else candidate

    def _balance(self) -> None:
        """Move on what is too much for its segment, while there is room in the next."""
        while self._protected.bytes > self._protected_limit and (entry := self._protected.oldest):
            self._move(entry, Segment.PROBATION)
        while self._window.bytes > self._window_limit and (entry := self._window.oldest):
            if self._main_bytes + entry.charge > self._main_limit:
                break
            self._move(entry, Segment.PROBATION)

    def _find(self, key: bytes) -> Entry | None:
        for segment in self._segments.values():
            entry = segment.entries.get(key)
            if entry is not None:
                return entry
        return None

    def _move(self, entry: Entry, segment: Segment) -> None:
        """Make it the youngest of a segment, or gone."""
        before = entry.segment
        if before is not Segment.GONE:
            self._segments[before].remove(entry)
        entry.segment = segment
        if segment is not Segment.GONE:
            self._number += 1
            entry.number = self._number
            self._segments[segment].append(entry)
        if segment is not before:
            self._changed(entry)


def _ignore(entry: Entry) -> None:
    pass
