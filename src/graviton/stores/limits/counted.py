"""A source whose bytes are counted while they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from graviton.concurrency.pieces import Filler

__all__ = ["Counted"]


class Counted:
    """A filler with a count of what it gives."""

    def __init__(
        self,
        filler: Filler,
        begin: Callable[[], Awaitable[None]],
        came: Callable[[int], Awaitable[None]],
        piece: int | None,
    ) -> None:
        """`begin` is called before the first bytes, `came` after some came; `piece` is how many to read at once."""
        self._filler, self._begin, self._came, self._piece = filler, begin, came, piece
        self.size_hint = filler.size_hint
        self._has_begun = False

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        if not self._has_begun:
            self._has_begun = True
            await self._begin()
        piece = self._piece or len(memory)
        filled = 0
        while filled < len(memory):
            part = memory[filled : filled + piece]
            count = await self._filler.fill(part)
            filled += count
            if count:
                await self._came(count)
            if count < len(part):
                break
        return filled

    async def aclose(self) -> None:
        """See `Filler`."""
        await self._filler.aclose()
