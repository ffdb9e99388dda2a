"""The policies that the cache might have had, and a way to run any of them over a trace.

W-TinyLFU is the cache's own code. LRU is the textbook's. S3-FIFO follows Yang et al., "FIFO queues are all you need for
cache eviction" (SOSP 2023), with the paper's constants and sizes in bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from graviton.stores.layers.cache.policy import WINDOW_SHARE, WTinyLfu

__all__ = ["OURS", "POLICIES", "Chosen", "HitRatio", "Policy", "hit_ratio"]


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

    def __init__(self, limit: int, window_share: float = WINDOW_SHARE) -> None:
        self._policy = WTinyLfu(limit, window_share=window_share)

    def request(self, key: int, size: int) -> bool:
        name = key.to_bytes(8, "big")
        if name in self._policy:
            self._policy.hit(name)
            return True
        while self._policy.used + size > self._policy.limit:
            self._policy.evict()
        self._policy.add(name, size)
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


class S3Fifo:
    """New blocks pass through a small queue. Those that were read twice there move on to the main queue; the others
    leave soon and are remembered as ghosts, as many as the cache holds bytes, and go to the main queue if they come
    back. In the main queue every read, of up to three, is worth another round."""

    def __init__(self, limit: int, small_share: float = 0.1) -> None:
        self._limit = limit
        self._small_limit = limit * small_share
        self._small = _Queue()
        self._main = _Queue()
        self._ghosts = _Queue()
        self._uses: dict[int, int] = {}

    def request(self, key: int, size: int) -> bool:
        if key in self._uses:
            self._uses[key] = min(self._uses[key] + 1, 3)
            return True
        while self._small.used + self._main.used + size > self._limit:
            if self._small.used > self._small_limit or not self._main.sizes:
                self._evict_small()
            else:
                self._evict_main()
        is_back = self._ghosts.pop(key) is not None
        (self._main if is_back else self._small).add(key, size)
        self._uses[key] = 0
        return False

    def _evict_small(self) -> None:
        key, size = self._small.pop_oldest()
        if self._uses[key] >= 2:
            self._main.add(key, size)
            self._uses[key] = 0
            return
        del self._uses[key]
        self._ghosts.add(key, size)
        while self._ghosts.used > self._limit:
            self._ghosts.pop_oldest()

    def _evict_main(self) -> None:
        key, size = self._main.pop_oldest()
        if self._uses[key]:
            self._main.add(key, size)
            self._uses[key] -= 1
        else:
            del self._uses[key]


class _Queue:
    """Keys with their sizes, the oldest first."""

    def __init__(self) -> None:
        self.used = 0
        self.sizes: OrderedDict[int, int] = OrderedDict()

    def add(self, key: int, size: int) -> None:
        self.sizes[key] = size
        self.used += size

    def pop(self, key: int) -> int | None:
        size = self.sizes.pop(key, None)
        self.used -= size or 0
        return size

    def pop_oldest(self) -> tuple[int, int]:
        key, size = self.sizes.popitem(last=False)
        self.used -= size
        return key, size


OURS = "W-TinyLFU (ours)"

POLICIES: dict[str, Callable[[int], Policy]] = {OURS: Chosen, "LRU": Lru, "S3-FIFO": S3Fifo}
