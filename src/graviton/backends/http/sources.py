"""Where the bytes of a put come from, and whether they can be had again."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from graviton.concurrency.executors import WorkerPool, in_own_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.parts import Parts
from graviton.concurrency.pieces import AsyncPieceFiller, MemoryFiller
from graviton.core.buffers import as_bytes, memory_of
from graviton.ports.blobs import BlobSource, RepeatableSource
from graviton.stores.fillers import open_filler

__all__ = ["PIECE_BYTES", "Run", "SentSource", "open_source"]

PIECE_BYTES: Final = 1024 * 1024
"""Bytes that are read, hashed and sent at once."""

_TRICKLE_BYTES: Final = 64 * 1024
_DRIP_BYTES: Final = 4 * 1024
_LONG_SECONDS: Final = 1.0
"""The same of a source that may be slow, and of one so slow that such a piece took longer than that. A server gives up
a client of whom nothing comes for 30 seconds (server/http/pace.py), and while a piece is gathered nothing does: with
1 MiB whoever brings 30 KiB/s would be cut off."""

_NOTHING: Final = memoryview(b"")


class SentSource:
    """The source of one put. `begin` takes the first piece into memory: whatever was not read beyond that can be sent
    again, and a source that has no more is known as a whole."""

    def __init__(
        self, parts: Parts, size: int | None, again: Callable[[int], Awaitable[Parts]] | None, *, is_quick: bool = False
    ) -> None:
        """`again` gives the parts from any byte on; None where the source can be read once. One that waits for nobody
        is quick."""
        self._parts, self._again = parts, again
        self._piece_bytes = PIECE_BYTES if is_quick else _TRICKLE_BYTES
        self._first = _NOTHING
        self._has_read = False
        self.size = size
        """Bytes in all, as far as one can tell; None where nobody knows."""
        self.is_whole = False
        """There are no more than those in memory, so the size is certain."""

    @property
    def is_seekable(self) -> bool:
        """Whether it can be read from any byte."""
        return self._again is not None

    async def begin(self) -> None:
        """Read the first piece. Raises what the source does."""
        self._first = await self._parts.next(PIECE_BYTES)
        if len(self._first) < PIECE_BYTES:
            self.size, self.is_whole = len(self._first), True

    async def run(self, offset: int = 0) -> Run | None:
        """The bytes from `offset` on, for one request at a time; None if they cannot be had any more."""
        if offset == 0 and not self._has_read:
            return Run(self, self._first)
        if self._again is None:
            return None
        await self._parts.aclose()
        self._parts = await self._again(offset)
        return Run(self, _NOTHING)

    async def read(self, size: int) -> memoryview:
        """Some bytes after those in memory, at most `size`, for a `Run`; none at the end."""
        if self.is_whole:
            return _NOTHING
        self._has_read = True
        began = time.monotonic()
        piece = await self._parts.next(min(size, self._piece_bytes))
        if self._piece_bytes < PIECE_BYTES:
            is_slow = time.monotonic() - began > _LONG_SECONDS
            self._piece_bytes = _DRIP_BYTES if is_slow else _TRICKLE_BYTES
        return piece

    async def aclose(self) -> None:
        """Close what was opened here. Idempotent."""
        await finish_anyway(self._parts.aclose())


class Run:
    """One pass over a source, or its rest."""

    def __init__(self, source: SentSource, head: memoryview) -> None:
        self._source, self._head = source, head
        self._reading = asyncio.Lock()
        self._is_closed = False

    async def next(self, size: int) -> memoryview:
        """The next bytes, at most `size`; none at the end."""
        async with self._reading:
            if self._is_closed:
                return _NOTHING
            if self._head:
                piece, self._head = self._head[:size], self._head[size:]
                return piece
            return await self._source.read(size)

    async def aclose(self) -> None:
        """Wait until nobody reads by it any more."""
        self._is_closed = True

        async def idle() -> None:
            async with self._reading:
                pass

        await finish_anyway(idle())


async def open_source(source: BlobSource, pool: WorkerPool) -> SentSource:
    """The source of a put, of whatever kind; nothing of it is read yet. Raises InvalidInput, NotFound,
    PermissionDenied, Unavailable."""
    view = memory_of(source)
    if view is not None:
        return await _of_memory(as_bytes(view), isinstance(source, bytes), pool)
    if isinstance(source, os.PathLike):
        path = Path(source)
        filler = await open_filler(path, pool)

        async def of_path(offset: int) -> Parts:
            return Parts(await open_filler(path, pool, start=offset))

        return SentSource(Parts(filler), filler.size_hint, of_path, is_quick=True)
    if isinstance(source, RepeatableSource):
        repeatable = source

        async def of_repeatable(offset: int) -> Parts:
            return Parts(AsyncPieceFiller(repeatable.from_byte(offset)))

        return SentSource(Parts(AsyncPieceFiller(source)), source.size, of_repeatable)
    is_file = hasattr(source, "read") and not isinstance(source, AsyncIterable)
    place = await in_own_thread(_measured, source) if is_file else None
    parts = Parts(await open_filler(source, pool))
    if place is None:
        return SentSource(parts, None, None)
    file, start = cast(BinaryIO, source), place.start

    async def of_file(offset: int) -> Parts:
        await in_own_thread(file.seek, start + offset)
        return Parts(await open_filler(file, pool))

    is_quick = isinstance(file, io.FileIO) and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    return SentSource(parts, place.size, of_file, is_quick=is_quick)


async def _of_memory(memory: memoryview, is_ours: bool, pool: WorkerPool) -> SentSource:
    """Memory of somebody else is copied piece by piece, so that what is sent is what was hashed."""

    async def again(offset: int) -> Parts:
        rest = memory[offset:]
        return Parts(rest if is_ours else MemoryFiller(rest, pool))

    return SentSource(await again(0), len(memory), again, is_quick=True)


class _Place(NamedTuple):
    """Where a file object stands."""

    start: int
    size: int
    """Bytes from there to its end."""


def _measured(file: Any) -> _Place | None:
    """Where it stands, if one can come back there."""
    try:
        if not file.seekable():
            return None
        start = file.tell()
        end = file.seek(0, io.SEEK_END)
        file.seek(start)
        return _Place(start, max(0, end - start))
    except Exception:  # noqa: BLE001 - an object of somebody else: whatever is wrong with it, reading it will tell
        return None
