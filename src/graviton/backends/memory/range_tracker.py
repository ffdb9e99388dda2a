"""`InMemoryRangeTracker`: the reference for `RangeTracker`."""

from __future__ import annotations

from collections.abc import Iterable

from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.ports.range_tracker import RangeTracker

__all__ = ["InMemoryRangeTracker"]


class InMemoryRangeTracker(RangeTracker):
    """Spans per locator, gone with the object; for the tasks of one event loop."""

    def __init__(self) -> None:
        self._known: dict[Locator, RangeSet] = {}

    async def current(self, locator: Locator) -> RangeSet:
        return self._known.get(locator, RangeSet())

    async def merge_many(self, locator: Locator, spans: Iterable[Span]) -> RangeSet:
        merged = self._known.get(locator, RangeSet()) | RangeSet(spans)
        if merged:
            self._known[locator] = merged
        return merged

    async def clear(self, locator: Locator) -> bool:
        return self._known.pop(locator, None) is not None
