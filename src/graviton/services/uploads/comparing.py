"""Whether bytes that are sent again are those that are held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from graviton.core.buffers import Buffer
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Conflict
from graviton.metadata.upload_rows import PartRow
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.values import UploadId

__all__ = ["compare"]


async def compare(kit: Kit, id: UploadId, part: PartRow, overlap: RangeSet) -> None:
    """Raises Conflict if bytes of the part are not those that are held."""
    spans = list(overlap)
    whole = Span(spans[0].start, spans[-1].end)
    async with aclosing(kit.parts.read(id, part, whole)) as pieces:
        mine = _Cursor(pieces, whole.start)
        for span in spans:
            await mine.skip_to(span.start)
            async with aclosing(kit.held.read(id, span)) as theirs:
                async for piece in theirs:
                    if (at := await mine.first_difference(memoryview(piece))) is not None:
                        raise _differs(id, at)


class _Cursor:
    """A place in a run of pieces."""

    def __init__(self, pieces: AsyncIterator[Buffer], at: int) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self._at = at

    async def _next(self, most: int) -> memoryview:
        while not self._piece:
            self._piece = memoryview(await anext(self._pieces))
        taken, self._piece = self._piece[:most], self._piece[most:]
        self._at += len(taken)
        return taken

    async def skip_to(self, offset: int) -> None:
        """Go on to `offset`."""
        while self._at < offset:
            await self._next(offset - self._at)

    async def first_difference(self, data: memoryview) -> int | None:
        """The offset of the first byte from here on that is not the one of `data`, which is gone through."""
        while data:
            mine = await self._next(len(data))
            theirs, data = data[: len(mine)], data[len(mine) :]
            if mine != theirs:
                start = self._at - len(mine)
                return start + next(i for i in range(len(mine)) if mine[i] != theirs[i])
        return None


def _differs(id: UploadId, at: int) -> Conflict:
    return Conflict(
        f"byte {at} of upload {id} is there already, and is another one",
        operation="upload",
        subject=id,
        hint="Was the file changed? Then start a new upload.",
    )
