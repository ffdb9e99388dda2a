"""The bytes of objects in pieces: small ones collected on their way in, an open file on its way out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from graviton.backends.filesystem._disk import Disk
from graviton.backends.filesystem._object_upload import contiguous
from graviton.backends.filesystem.errors import mapped
from graviton.concurrency.executors import WorkerPool
from graviton.core.buffers import Buffer
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import IntegrityError

__all__ = ["Pending", "Pieces"]

PIECE_BYTES: Final = 1024 * 1024
"""Read and written per thread hop (up to 125 us, against 200 us for the copy): the memory one stream holds."""
COPIED_BYTES: Final = 64 * 1024
"""Smaller pieces of a source are collected until there are PIECE_BYTES; larger ones are written as they are."""


class Pending:
    """Small pieces collected into larger ones. A source may reuse a buffer, so what waits here is a copy."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, piece: Buffer) -> list[Buffer]:
        """What must be written before the next piece is asked for."""
        piece = contiguous(piece)
        if len(piece) < COPIED_BYTES:
            self._bytes += piece
            return [self.rest()] if len(self._bytes) >= PIECE_BYTES else []
        return [self.rest(), piece]

    def rest(self) -> Buffer:
        """What is collected; then nothing is."""
        rest, self._bytes = self._bytes, bytearray()
        return rest


class Pieces(AsyncIterator[bytes]):
    """The bytes of an open object. A class and not a generator: one that is never iterated must close its file too."""

    def __init__(self, disk: Disk, pool: WorkerPool, fd: int, span: Span, locator: Locator) -> None:
        self._disk = disk
        self._pool = pool
        self._fd = fd
        self._position = span.start
        self._end = span.end
        self._locator = locator

    async def __anext__(self) -> bytes:
        size = min(PIECE_BYTES, self._end - self._position)
        if size <= 0 or self._fd < 0:
            await self.aclose()
            raise StopAsyncIteration
        try:
            piece = await self._pool.run(lambda flag: self._read(size))
        except BaseException:
            with suppress(OSError):  # the other error is the one to tell
                self._close()
            raise
        self._position += len(piece)
        return piece

    def _read(self, size: int) -> bytes:
        with mapped("objects.get", self._locator.text):
            piece = self._disk.read_at(self._fd, size, self._position)
        if not piece:
            raise IntegrityError(
                f"{self._locator} ends at byte {self._position}, before byte {self._end}",
                operation="objects.get",
                subject=self._locator.text,
            )
        return piece

    async def aclose(self) -> None:
        """Close the file. Idempotent."""
        with mapped("objects.get", self._locator.text):
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._disk.close(fd)

    def __del__(self) -> None:
        with suppress(OSError):  # nobody is there to hear it
            self._close()
