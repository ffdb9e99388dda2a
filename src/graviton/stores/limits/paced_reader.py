"""A reader that gives no more bytes per second than it may."""

from __future__ import annotations

from graviton.ports.blobs import BlobReader
from graviton.stores.limits.room import Pace

__all__ = ["PacedReader"]


class PacedReader(BlobReader):
    """Another reader, in smaller pieces."""

    def __init__(self, reader: BlobReader, pace: Pace) -> None:
        self._reader, self._pace = reader, pace
        self.key, self.span, self.attributes = reader.key, reader.span, reader.attributes
        self._rest = memoryview(b"")

    def __aiter__(self) -> PacedReader:
        return self

    async def __anext__(self) -> memoryview:
        if not self._rest:
            self._rest = memoryview(await anext(self._reader))
        count = min(len(self._rest), self._pace.piece)
        await self._pace.take(count)
        piece, self._rest = self._rest[:count], self._rest[count:]
        return piece

    async def aclose(self) -> None:
        self._rest = memoryview(b"")
        await self._reader.aclose()
