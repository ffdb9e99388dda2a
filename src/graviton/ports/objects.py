"""`ImmutableObjectStore` and `MutableObjectStore`: bytes under locators, apart from content keys.

Laws:
- `put` replaces the object as a whole: readers see the old one or the new one. One that failed or was cancelled leaves
  the old object and no other trace; over a network it may have made the new one, if it was cancelled or heard no answer
  while the last request was on its way. An empty object is an object. Memory is bounded, whatever the object's size.
- `get` raises NotFound, or RangeNotSatisfiable when `span` ends beyond the object, before it returns; then it
  yields exactly the bytes of the object as it was at that moment, or raises; `span=None` is the whole object.
- `head` is None exactly when there is no object; an error is never taken for absence.
- `list(prefix)` yields the stat of each object whose locator's path begins with `prefix` (text, not a folder: `c` also
  finds `cc/x`) in the order of UTF-8 bytes of the paths.
- `delete` says whether there was an object. `copy` raises NotFound when there is no source; onto itself it is nothing.
- A store serves one scheme and bucket; a locator of another raises InvalidInput. Every legal path is a place of its
  own, also beside one that it continues (`c` and `c/x`); one that the backend cannot have (too long) raises
  InvalidInput.
- Anything iterated and abandoned gives back its handles when closed (`aclosing`) or collected.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import NamedTuple, TypeAlias

from graviton.core.buffers import Buffer
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.ports.capabilities import Capabilities

__all__ = ["ImmutableObjectStore", "MutableObjectStore", "ObjectSource", "ObjectStat"]

ObjectSource: TypeAlias = Buffer | Iterable[Buffer] | AsyncIterable[Buffer]
"""What an object is made from: bytes, or pieces of them."""


class ObjectStat(NamedTuple):
    """An object as `head` and `list` see it."""

    locator: Locator
    size: int
    """Bytes."""
    modified_ns: int
    """UTC nanoseconds of the last put, as far as the backend knows."""


class ImmutableObjectStore(ABC):
    """The reading half; see the module docstring for the laws."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def head(self, locator: Locator) -> ObjectStat | None:
        """The object's stat, or None."""

    @abstractmethod
    def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        """Objects whose path begins with `prefix`, in path order."""

    @abstractmethod
    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        """The object's bytes in pieces. Raises NotFound, RangeNotSatisfiable."""

    async def aclose(self) -> None:
        """Give back threads and handles. Idempotent."""


class MutableObjectStore(ImmutableObjectStore):
    """Adds what changes objects; see the module docstring for the laws."""

    @abstractmethod
    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        """Create or replace an object. Raises StorageFull, PermissionDenied, Unavailable."""

    @abstractmethod
    async def delete(self, locator: Locator) -> bool:
        """Remove an object; whether it was there."""

    @abstractmethod
    async def copy(self, source: Locator, target: Locator) -> ObjectStat:
        """Make `target` equal to `source`. Raises NotFound."""
