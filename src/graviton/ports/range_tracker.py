"""`RangeTracker`: which byte spans of a locator have been persisted, for resumable uploads and repair.

Laws:
- `current` of an unknown locator is the empty set. `merge` adds a span and returns the whole set after it; merging is
  idempotent, commutative, and concurrent merges of one locator never lose a span. An empty span changes nothing.
- `merge_many` is one atomic merge of several spans. `clear` forgets the locator; whether anything was known.
- Cost grows with the ranges that touch the new span, not with the number of merges made: 100,000 one-byte spans in
  random order end as one range.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span

__all__ = ["RangeTracker"]


class RangeTracker(ABC):
    """Persisted spans per locator; see the module docstring for the laws."""

    @abstractmethod
    async def current(self, locator: Locator) -> RangeSet:
        """The spans known."""

    @abstractmethod
    async def merge_many(self, locator: Locator, spans: Iterable[Span]) -> RangeSet:
        """Add spans, durably and at once; the set after it."""

    async def merge(self, locator: Locator, span: Span) -> RangeSet:
        """Add one span, durably; the set after it."""
        return await self.merge_many(locator, [span])

    @abstractmethod
    async def clear(self, locator: Locator) -> bool:
        """Forget the locator; whether anything was known."""
