"""`S3Fifo`: which entry goes when there is no room.

After Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023), with sizes in bytes. New entries pass
through a small queue; those that were used there move on to the main queue, the others leave soon and are remembered as
*ghosts*: who comes back while its ghost is there goes straight to the main queue. So one pass over everything throws
out a tenth of the cache. In the main queue, an entry that was used gets another round for each use, up to three.

Why this one: it is within 2 % of the best where popularity lasts and where scans pass through; loops larger than the
cache are its weakness (docs/decisions/0040-cache-eviction.md). And a hit changes one number of one entry and no order,
so readers need no lock and no turn with the thread that evicts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Entry", "Eviction", "Queue", "S3Fifo"]

_K = TypeVar("_K", bound=Hashable)

SMALL_SHARE = 0.1
"""Part of the bytes for entries on trial, as in the paper: there the best over 6,594 traces, and not sensitive."""

MOVE_ON_USES = 2
"""Uses in the small queue that move an entry on, as in the paper. With 1, changing working sets gain a hundredth and
loops lose a fifth or more (benchmarks/cache/README.md)."""

MAX_USES = 3
"""Uses that are told apart, as in the paper: more would keep what was popular once."""


class Queue(IntEnum):
    """Where an entry is; small and main are stored values."""

    GONE = 0
    SMALL = 1
    MAIN = 2


class Entry(Generic[_K]):
    """One thing in the cache. Readers may raise `uses` while the keeper does anything else: it is only a hint."""

    __slots__ = ("charge", "key", "queue", "recorded_uses", "uses")

    def __init__(self, key: _K, charge: int, queue: Queue, uses: int = 0) -> None:
        self.key = key
        self.charge = charge
        """Bytes it takes."""
        self.queue = queue
        self.uses = uses
        self.recorded_uses = uses
        """As the keeper last wrote them down: hits, which he is not told of, make the difference."""


class Eviction(NamedTuple, Generic[_K]):
    """What is to go."""

    entry: Entry[_K]
    queue: Queue
    """Where it was."""


class S3Fifo(Generic[_K]):
    """The entries and their order. `hit` may be called by any thread, everything else by one."""

    def __init__(self, limit: int, changed: Callable[[Entry[_K]], None] | None = None) -> None:
        """`limit` in bytes: what the caller keeps `used` below, by evicting before he adds. `changed` is told of every
        entry that is added, gets another place, or is gone."""
        self.limit = limit
        self.used = 0
        """Bytes of all entries."""
        self._changed = changed or _ignore
        self._entries: dict[_K, Entry[_K]] = {}
        # Both also hold entries that were removed, or moved on, until these come to the front.
        self._small: deque[Entry[_K]] = deque()
        self._main: deque[Entry[_K]] = deque()
        self._small_bytes = 0
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        """Hash of the key and charge of what left the small queue, the oldest first; together at most `limit`."""
        self._ghost_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: _K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Entry[_K]]:
        """All entries, those of the small queue first, each queue from the one that goes first."""
        for queue, kind in ((self._small, Queue.SMALL), (self._main, Queue.MAIN)):
            for entry in queue:
                if entry.queue is kind:
                    yield entry

    def hit(self, key: _K) -> bool:
        """Note that `key` was used; whether there is such an entry."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if entry.uses < MAX_USES:
            entry.uses += 1
        return True

    def add(self, key: _K, charge: int) -> None:
        """A new entry, the youngest of its queue."""
        ghost = self._ghosts.pop(hash(key), None)
        if ghost is not None:
            self._ghost_bytes -= ghost
        entry = Entry(key, charge, Queue.SMALL if ghost is None else Queue.MAIN)
        self.restore(entry)
        self._changed(entry)

    def restore(self, entry: Entry[_K]) -> None:
        """An entry as it was before a restart, the youngest of its queue. Of this `changed` is not told."""
        assert entry.key not in self._entries, "the keeper looks first"
        self._entries[entry.key] = entry
        self.used += entry.charge
        self._append(entry)

    def evict(self) -> Eviction[_K] | None:
        """Take out the entry that is to go next; None if there is none. `take_back` undoes it."""
        while self._entries:
            small_bytes, main_bytes = self._small_bytes, self.used - self._small_bytes
            if small_bytes > self.limit * SMALL_SHARE or not main_bytes:
                victim = self._evict_small()
            else:
                victim = self._evict_main()
            if victim is not None:
                return victim
        return None

    def take_back(self, eviction: Eviction[_K]) -> None:
        """An entry whose removal failed: it still takes room, and is tried again after the others."""
        eviction.entry.queue = eviction.queue
        self.restore(eviction.entry)
        self._changed(eviction.entry)

    def remove(self, key: _K) -> Entry[_K] | None:
        """Take out an entry that is no good; it leaves no ghost."""
        entry = self._entries.get(key)
        if entry is not None:
            self._take_out(entry)
        return entry

    def _evict_small(self) -> Eviction[_K] | None:
        while self._small:
            entry = self._small.popleft()
            if entry.queue is not Queue.SMALL:
                continue
            if entry.uses < MOVE_ON_USES:
                self._take_out(entry)
                self._remember(entry)
                return Eviction(entry, Queue.SMALL)
            self._small_bytes -= entry.charge
            entry.queue, entry.uses = Queue.MAIN, 0
            self._append(entry)
            self._changed(entry)
            return None  # the main queue may be the longer one now
        return None

    def _evict_main(self) -> Eviction[_K] | None:
        while self._main:
            entry = self._main.popleft()
            if entry.queue is not Queue.MAIN:
                continue
            if entry.uses == 0:
                self._take_out(entry)
                return Eviction(entry, Queue.MAIN)
            entry.uses -= 1
            self._append(entry)
            self._changed(entry)
        return None

    def _append(self, entry: Entry[_K]) -> None:
        if entry.queue is Queue.SMALL:
            self._small.append(entry)
            self._small_bytes += entry.charge
        else:
            self._main.append(entry)

    def _take_out(self, entry: Entry[_K]) -> None:
        del self._entries[entry.key]
        self.used -= entry.charge
        if entry.queue is Queue.SMALL:
            self._small_bytes -= entry.charge
        entry.queue = Queue.GONE
        self._changed(entry)

    def _remember(self, entry: Entry[_K]) -> None:
        mark = hash(entry.key)
        self._ghost_bytes += entry.charge - self._ghosts.pop(mark, 0)
        self._ghosts[mark] = entry.charge
        while self._ghost_bytes > self.limit:
            self._ghost_bytes -= self._ghosts.popitem(last=False)[1]


def _ignore(entry: Entry[_K]) -> None:
    pass
