"""Fillers of memory from pieces of bytes: somebody's buffer, an iterator, an async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, Protocol

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.core.buffers import Buffer, as_bytes

__all__ = ["AsyncPieceFiller", "Filler", "MemoryFiller", "PieceFiller", "pour"]


class Filler(Protocol):
    """Fills memory with the next bytes of a source."""

    size_hint: int | None
    """Expected bytes in total, as far as known; never relied on."""

    async def fill(self, memory: memoryview) -> int:
        """Fill `memory` from its beginning; the bytes written, fewer than `len(memory)` only at the end."""
        ...

    async def aclose(self) -> None:
        """Close what was opened here."""
        ...


class MemoryFiller:
    """Memory of somebody else, which is copied."""

    def __init__(self, data: memoryview, pool: WorkerPool) -> None:
        self.size_hint: int | None = len(data)
        self._rest, self._pool = data, pool

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        self._rest, filled = await in_thread(self._pool, pour, self._rest, memory, 0)
        return filled

    async def aclose(self) -> None:
        """Nothing was opened."""


class PieceFiller:
    """Pieces of bytes from an iterator, which runs on a thread of its own because it may wait for something."""

    size_hint: int | None = None

    def __init__(self, pieces: Iterator[Buffer], thread: WorkerPool) -> None:
        self._pieces, self._thread = pieces, thread
        self._rest = memoryview(b"")

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        return await in_thread(self._thread, self._read, memory)

    def _read(self, memory: memoryview) -> int:
        filled = 0
        while filled < len(memory):
            if not self._rest:
                piece = next(self._pieces, _END)
                if piece is _END:
                    break
                self._rest = as_bytes(piece)
            self._rest, filled = pour(self._rest, memory, filled)
        return filled

    async def aclose(self) -> None:
        """Close the iterator, if it can be, and end its thread."""
        close = getattr(self._pieces, "close", None)
        try:
            if close is not None:
                await in_thread(self._thread, close)
        finally:
            self._thread.shutdown()


class AsyncPieceFiller:
    """Pieces of bytes from an async iterator, which runs in one task from its first piece to its end.

    Whatever it has in between (context variables, a timeout or task group around its `yield`) sees one task, whoever
    asks for the next bytes.
    """

    size_hint: int | None = None

    def __init__(self, source: AsyncIterable[Buffer]) -> None:
        self._source = source
        self._driver: asyncio.Task[None] | None = None
        self._memory = memoryview(b"")
        self._filled = 0
        self._asked = asyncio.Event()
        self._full = asyncio.Event()

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        if not memory:
            return 0
        self._memory, self._filled = memory, 0
        self._full.clear()
        self._asked.set()
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive())
            self._driver.add_done_callback(lambda _: self._full.set())
        try:
            if not self._driver.done():
                await self._full.wait()
        except asyncio.CancelledError:
            await finish_anyway(self.aclose())  # it uses the memory
            raise
        if self._driver.done():
            self._driver.result()
        return self._filled

    async def _drive(self) -> None:
        pieces = aiter(self._source)
        try:
            async for piece in pieces:
                rest = as_bytes(piece)
                while rest:
                    rest, self._filled = pour(rest, self._memory, self._filled)
                    if self._filled == len(self._memory):
                        self._asked.clear()
                        self._full.set()
                        await self._asked.wait()
        finally:
            await _close(pieces)

    async def aclose(self) -> None:
        """End the iterator in its own task. What it raises then is told to the event loop, not to the caller, who has
        an error of its own."""
        if self._driver is None:
            await _close(aiter(self._source))
        elif not self._driver.done():
            self._driver.cancel()
            await asyncio.wait([self._driver])


async def _close(pieces: AsyncIterator[Buffer]) -> None:
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


_END: Any = object()
"""The end of an iterator; None is not the end but a piece that is no bytes."""


def pour(rest: memoryview, memory: memoryview, filled: int) -> tuple[memoryview, int]:
    """Copy what there is room for after the first `filled` bytes; what is left of `rest`, and the bytes filled then."""
    count = min(len(rest), len(memory) - filled)
    memory[filled : filled + count] = rest[:count]
    return rest[count:], filled + count
