"""The store marker of a store in memory. Structurally a `graviton.metadata.marker.MarkerStore`."""

from __future__ import annotations

from graviton.errors import AlreadyExists

__all__ = ["InMemoryMarkerStore"]


class InMemoryMarkerStore:
    """Keeps one marker."""

    where = "memory://"

    def __init__(self) -> None:
        self._data: bytes | None = None

    async def read(self) -> bytes | None:
        """The marker, or None."""
        return self._data

    async def write_new(self, data: bytes) -> None:
        """Set the marker where there is none. Raises AlreadyExists."""
        if self._data is not None:
            raise AlreadyExists("there is a store marker already", operation="store.init", subject=self.where)
        self._data = data

    async def replace(self, data: bytes) -> None:
        """Set the marker."""
        self._data = data

    async def check_replace(self) -> None:
        """It can always be."""
