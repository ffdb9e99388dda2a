"""The policies that the cache might have had, and a way to run any of them over a trace.

LRU is the textbook's. W-TinyLFU follows Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission
Policy" (ACM ToS 2017): a window of 1 %, a segmented LRU behind it, and a count-min sketch of 4-bit counters, halved now
and then, that decides whether what leaves the window may push out what is to go from the main part.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from graviton.stores.layers.cache.policy import S3Fifo

__all__ = ["POLICIES", "HitRatio", "Policy", "hit_ratio"]


_MEAN_BYTES = 1_300_000
"""Of a block in the traces."""


class Policy(Protocol):
    """A cache without the bytes."""

    def request(self, key: int, size: int) -> bool:
        """Whether it is there; if not it is fetched, and perhaps kept."""
        ...


class HitRatio(NamedTuple):
    """Of one run."""

    requests: float
    bytes: float


def hit_ratio(policy: Policy, trace: Iterable[tuple[int, int]]) -> HitRatio:
    """The parts of the requests and of their bytes that were served."""
    count = hits = total = served = 0
    for key, size in trace:
        count += 1
        total += size
        if policy.request(key, size):
            hits += 1
            served += size
    return HitRatio(hits / count, served / total)


class Chosen:
    """What the cache does: graviton.stores.layers.cache.policy."""

    def __init__(self, limit: int) -> None:
        self._policy: S3Fifo[int] = S3Fifo(limit)

    def request(self, key: int, size: int) -> bool:
        if self._policy.hit(key):
            return True
        while self._policy.used + size > self._policy.limit:
            self._policy.evict()
        self._policy.add(key, size)
        return False


class Lru:
    """The least recently used goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def request(self, key: int, size: int) -> bool:
        if key in self._sizes:
            self._sizes.move_to_end(key)
            return True
        while self._used + size > self._limit:
            self._used -= self._sizes.popitem(last=False)[1]
        self._sizes[key] = size
        self._used += size
        return False


class WTinyLfu:
    """See the module."""

    def __init__(self, limit: int, window_share: float = 0.01, protected_share: float = 0.8) -> None:
        self._window_limit = limit * window_share
        self._main_limit = limit - self._window_limit
        self._protected_limit = self._main_limit * protected_share
        self._window = _Segment()
        self._probation = _Segment()
        self._protected = _Segment()
        self._sketch = _Sketch(1 << 14, sample=10 * limit // _MEAN_BYTES)

    def request(self, key: int, size: int) -> bool:
        self._sketch.add(key)
        if key in self._window.sizes:
            self._window.sizes.move_to_end(key)
            return True
        if key in self._protected.sizes:
            self._protected.sizes.move_to_end(key)
            return True
        if key in self._probation.sizes:
            self._protect(key)
            return True
        self._window.add(key, size)
        while self._window.used > self._window_limit:
            self._admit(*self._window.pop_oldest())
        return False

    def _protect(self, key: int) -> None:
        self._protected.add(key, self._probation.pop(key))
        while self._protected.used > self._protected_limit:
            self._probation.add(*self._protected.pop_oldest())

    def _admit(self, key: int, size: int) -> None:
        while self._probation.used + self._protected.used + size > self._main_limit:
            victims = self._probation if self._probation.sizes else self._protected
            victim = next(iter(victims.sizes))
            if self._sketch.count(key) <= self._sketch.count(victim):
                return
            victims.pop(victim)
        self._probation.add(key, size)


class _Segment:
    """Part of the cache, the oldest first."""

    def __init__(self) -> None:
        self.used = 0
        self.sizes: OrderedDict[int, int] = OrderedDict()

    def add(self, key: int, size: int) -> None:
        self.sizes[key] = size
        self.used += size

    def pop(self, key: int) -> int:
        size = self.sizes.pop(key)
        self.used -= size
        return size

    def pop_oldest(self) -> tuple[int, int]:
        key, size = self.sizes.popitem(last=False)
        self.used -= size
        return key, size


class _Sketch:
    """Count-min with four rows of small counters, all halved after `sample` additions: ten per entry, as usual."""

    _MAX = 15
    _MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)

    def __init__(self, columns: int, sample: int) -> None:
        self._sample = sample
        self._rows = [bytearray(columns) for _ in self._MULTIPLIERS]
        self._columns = columns
        self._added = 0

    def _places(self, key: int) -> list[int]:
        return [((key + 1) * factor & (2**64 - 1)) >> 40 & self._columns - 1 for factor in self._MULTIPLIERS]

    def add(self, key: int) -> None:
        places = self._places(key)
        least = min(row[place] for row, place in zip(self._rows, places, strict=True))
        if least < self._MAX:
            for row, place in zip(self._rows, places, strict=True):
                if row[place] == least:
                    row[place] += 1
        self._added += 1
        if self._added >= self._sample:
            self._added //= 2
            self._rows = [bytearray(value >> 1 for value in row) for row in self._rows]

    def count(self, key: int) -> int:
        return min(row[place] for row, place in zip(self._rows, self._places(key), strict=True))


POLICIES: dict[str, Callable[[int], Policy]] = {"S3-FIFO (ours)": Chosen, "LRU": Lru, "W-TinyLFU": WTinyLfu}
