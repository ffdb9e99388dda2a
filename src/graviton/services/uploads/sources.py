"""The bytes of one request on their way in, which end when the client goes, or when somebody else is to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence

from graviton.concurrency.pieces import Filler
from graviton.core.buffers import Buffer, as_bytes
from graviton.services.uploads.values import Interrupted

__all__ = ["ChainedFiller", "Feed", "HeadFiller"]


class Feed:
    """What a source gives from `position` on; iterated once. It never raises what the source does, nor what is wrong
    with it: the bytes before that are good, and what it was stays in `error`."""

    def __init__(self, source: AsyncIterable[Buffer], position: int) -> None:
        self.position = position
        """After the bytes handed out so far."""
        self.error: Exception | None = None
        self.is_stopped = False
        """It ended because somebody wanted it to, and not the source."""
        self.has_ended = False
        """The source has said that there is no more."""
        self._source = source
        self.admit: Callable[[int], Awaitable[None]] | None = None
        """Asked before bytes up to an offset are taken; what it raises ends the feed as an error of the source does."""
        self._limit: tuple[int, Exception, bool] | None = None
        self._asked_to_stop = False
        self._waiting: asyncio.Task[object] | None = None

    def limit(self, end: int, error: Exception, *, fills: bool = False) -> None:
        """Take nothing beyond `end`: it ends with `error` there. A piece that goes beyond is not taken at all, unless
        it `fills` what is left. Of several limits the lowest counts."""
        if self._limit is None or end < self._limit[0]:
            self._limit = end, error, fills

    def stop(self) -> None:
        """Have it end as soon as what has come was handed out. A source that waits for its client is cancelled."""
        self._asked_to_stop = True
        if self._waiting is not None:
            self._waiting.cancel()

    def raise_error(self) -> None:
        """Raise what was wrong with the source, if anything was."""
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        pieces = aiter(self._source)
        try:
            while (piece := await self._next(pieces)) is not None:
                if piece:
                    self.position += len(piece)
                    yield piece
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    async def _next(self, pieces: AsyncIterator[Buffer]) -> memoryview | None:
        if self.error is not None:
            return None
        if self._asked_to_stop:
            self.is_stopped = True
            return None
        task = asyncio.current_task()
        assert task is not None
        self._waiting = task
        piece: memoryview | None
        try:
            piece = as_bytes(await anext(pieces))
        except StopAsyncIteration:
            self.has_ended = True
            return None
        except Interrupted:
            return None
        except asyncio.CancelledError:
            if not self._asked_to_stop:
                raise
            task.uncancel()
            self.is_stopped = True
            return None
        except Exception as error:  # noqa: BLE001 - told when what came before it is safe
            self.error = error
            return None
        finally:
            self._waiting = None
        piece = self._within(piece)
        if piece and self.admit is not None:
            try:
                await self.admit(self.position + len(piece))
            except Exception as error:  # noqa: BLE001 - likewise
                self.error = error
                return None
        return piece

    def _within(self, piece: memoryview) -> memoryview | None:
        if self._limit is None or self.position + len(piece) <= self._limit[0]:
            return piece
        end, self.error, fills = self._limit
        return piece[: end - self.position] if fills else None


class HeadFiller:
    """A filler some of whose bytes were read already."""

    size_hint: int | None = None

    def __init__(self, head: memoryview, filler: Filler) -> None:
        self._head, self._filler = head, filler

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        count = min(len(self._head), len(memory))
        memory[:count], self._head = self._head[:count], self._head[count:]
        return count + (await self._filler.fill(memory[count:]) if count < len(memory) else 0)

    async def aclose(self) -> None:
        """Close the filler behind it."""
        await self._filler.aclose()


class ChainedFiller:
    """Several fillers, one after the other."""

    size_hint: int | None = None

    def __init__(self, fillers: Sequence[Filler]) -> None:
        self._left = list(fillers)

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        filled = 0
        while self._left:
            filled += await self._left[0].fill(memory[filled:])
            if filled == len(memory):
                break
            await self._left.pop(0).aclose()
        return filled

    async def aclose(self) -> None:
        """Close those that were not read to their end."""
        try:
            while self._left:
                await self._left.pop(0).aclose()
        finally:
            if self._left:
                await self.aclose()
