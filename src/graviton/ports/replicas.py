"""`ReplicaIndex`: where the copies of a key are.

Laws:
- `replicas` is the set of locators recorded for a key, empty for an unknown one. `update` replaces it as a whole; new
  locators begin as PRESENT and never verified, those that stay keep their state and time, an empty set forgets the key.
- `mark` sets state and (when given) verified-at of one recorded locator; False if it is not recorded.
- A *live* copy is one that is PRESENT. `short_of(n)` yields the known keys with fewer than n live copies;
  `in_sector(name)` those with a locator whose bucket is `name`; `oldest_verified` the live copies, never verified ones
  first, then by time. All are paged inside and bounded in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Set
from enum import Enum
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.core.locators import Locator

__all__ = ["Replica", "ReplicaIndex", "ReplicaState"]


class ReplicaState(Enum):
    """State of one copy; the values are stored."""

    PRESENT = 1
    MISSING = 2
    CORRUPT = 3
    RELOCATING = 4


class Replica(NamedTuple):
    """One copy of a key."""

    key: BlockKey
    locator: Locator
    state: ReplicaState
    verified_at_ns: int
    """UTC nanoseconds of the last verification; 0 if never."""


class ReplicaIndex(ABC):
    """Copies per key; see the module docstring for the laws."""

    @abstractmethod
    async def replicas(self, key: BlockKey) -> Set[Locator]:
        """The recorded locators of `key`."""

    @abstractmethod
    async def update(self, key: BlockKey, locators: Iterable[Locator]) -> None:
        """Replace the recorded locators of `key`, durably."""

    @abstractmethod
    async def mark(
        self, key: BlockKey, locator: Locator, state: ReplicaState, verified_at_ns: int | None = None
    ) -> bool:
        """Set the state of one copy, durably; False if it is not recorded."""

    @abstractmethod
    async def details(self, key: BlockKey) -> list[Replica]:
        """The copies of `key` with their states, ordered by locator text."""

    @abstractmethod
    def short_of(self, copies: int) -> AsyncIterator[tuple[BlockKey, int]]:
        """Known keys with fewer than `copies` live copies, and how many they have, in key order."""

    @abstractmethod
    def in_sector(self, bucket: str) -> AsyncIterator[Replica]:
        """Copies whose locator has that bucket, in key order."""

    @abstractmethod
    def oldest_verified(self) -> AsyncIterator[Replica]:
        """Live copies, those verified longest ago first."""
