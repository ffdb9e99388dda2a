"""Writing a blob to a descriptor that may be anything: a pipe whose reader sleeps, a terminal, a file that grows.

The pieces leave in order, each verified; nothing is written past a damage. A writer that has to wait does so on the
event loop, so that cancelling ends the wait at once.
"""

from __future__ import annotations

import asyncio
import os
import stat

from graviton.ports.blobs import BlobReader

__all__ = ["DescriptorWriter"]

_SAFE_BYTES = 4096
"""PIPE_BUF of Linux: a pipe that poll(2) calls writable takes that much without blocking."""


class DescriptorWriter:
    """Writes to `fd`, which stays open. Use with `async with`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._own: int | None = None
        self._can_wait = False
        self._piece_bytes = 1024 * 1024
        self.written_bytes = 0
        """By now."""

    async def __aenter__(self) -> DescriptorWriter:
        self._prepare()
        return self

    def _prepare(self) -> None:
        kind = stat.S_IFMT(os.fstat(self._fd).st_mode)
        if kind in (stat.S_IFREG, stat.S_IFBLK):
            return
        self._can_wait = True
        try:
            # A description of our own: O_NONBLOCK on the one we were given would change it for the shell as well.
            self._own = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._piece_bytes = _SAFE_BYTES  # a socket, or no /proc: small pieces, each when there is room

    async def __aexit__(self, *_: object) -> None:
        if self._own is not None:
            os.close(self._own)
            self._own = None

    async def copy(self, reader: BlobReader) -> int:
        """All of `reader`; its bytes. Raises what the reader raises, BrokenPipeError and other OSErrors."""
        total = 0
        async for piece in reader:
            total += len(piece)
            await self.write(piece)
        return total

    async def write(self, data: bytes | memoryview) -> None:
        """All of `data`."""
        view = memoryview(data)
        fd = self._fd if self._own is None else self._own
        while view:
            if self._can_wait and self._own is None:
                await _writable(fd)
            try:
                count = os.write(fd, view[: self._piece_bytes])
            except BlockingIOError:
                await _writable(fd)
            else:
                view = view[count:]
                self.written_bytes += count
                await asyncio.sleep(0)  # let the next blocks be fetched, and a signal be seen


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_writer(fd, tell)
    except OSError:  # a device that cannot be waited for is always ready
        return
    try:
        await ready
    finally:
        loop.remove_writer(fd)
