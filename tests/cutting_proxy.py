"""A TCP proxy that breaks connections at a byte: what networks do, at every place where it can happen."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.loopback_server import LoopbackServer

__all__ = ["Cut", "CuttingProxy"]

_NO_LINGER = struct.pack("ii", 1, 0)
"""Closing a socket with this sends a reset: https://man7.org/linux/man-pages/man7/socket.7.html"""


class Cut(NamedTuple):
    """Where a connection ends."""

    up: int | None = None
    """After so many bytes from the client, the server has just these."""
    down: int | None = None
    """After so many bytes from the server, the client has just these."""
    reset: bool = True
    """Reset, or ended in good order."""
    stalls: bool = False
    """Not ended at all: nothing more passes."""


class CuttingProxy(LoopbackServer):
    """`url` leads through it. The connections that follow are cut as `cuts` says, one each; when these are used up they
    pass whole."""

    def __init__(self, url: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._place, self._path = (parts.hostname, parts.port), parts.path
        self.cuts: list[Cut] = []
        self.up = self.down = 0
        """Bytes that passed, either way."""
        self.happened = 0
        """How many connections were cut."""

    @property
    def url(self) -> str:
        """Where it is, with the path of the server."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cut = self.cuts.pop(0) if self.cuts else Cut()
        try:
            behind = await asyncio.open_connection(*self._place)
        except OSError:
            writer.transport.abort()
            return
        flows = [
            asyncio.ensure_future(self._flow(reader, behind[1], cut.up, "up", writer if cut.stalls else None)),
            asyncio.ensure_future(self._flow(behind[0], writer, cut.down, "down", writer if cut.stalls else None)),
        ]
        try:
            done, _ = await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
            was_cut = any(not flow.cancelled() and flow.exception() is None and flow.result() for flow in done)
            self.happened += was_cut
            for end in (writer, behind[1]):
                _end(end, reset=cut.reset and was_cut)
        finally:
            for flow in flows:
                flow.cancel()
            await asyncio.gather(*flows, return_exceptions=True)
            for end in (writer, behind[1]):
                end.transport.abort()

    async def _flow(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        limit: int | None,
        name: str,
        stalled: asyncio.StreamWriter | None,
    ) -> bool:
        """Pass bytes on; whether that ended because of the limit. Then `stalled` stands still until its client goes."""
        left = limit
        while left is None or left > 0:
            data = await source.read(65536 if left is None else min(left, 65536))
            if not data:
                return False
            sink.write(data)
            await sink.drain()
            setattr(self, name, getattr(self, name) + len(data))
            left = None if left is None else left - len(data)
        if stalled is not None:
            self.happened += 1
            await _hang_up(stalled)
            return False
        await asyncio.sleep(0.01)  # what was passed on arrives before the end does
        return True


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Wait until the other side has closed a connection that nobody reads from."""
    watch = select.poll()
    watch.register(writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
    while not watch.poll(0):
        await asyncio.sleep(0.01)


def _end(writer: asyncio.StreamWriter, reset: bool) -> None:
    if reset:
        found: socket.socket | None = writer.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()
    else:
        writer.close()
