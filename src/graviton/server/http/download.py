"""A blob, or ranges of it, on its way to a client.

All that can be known is asked before the headers go out: the first block is read and verified too. What fails after
that raises out of the application, and the connection ends without the end of the body: no client takes half for whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from graviton.core.clock import Clock
from graviton.core.ranges import Span
from graviton.ports.blobs import BlobReader
from graviton.server.http.asgi import Headers, Receive, Send
from graviton.server.http.errors import ClientGone
from graviton.server.http.pace import Pace
from graviton.server.http.ranges import BodyPart

__all__ = ["Delivery", "left_when_gone"]

SLICE_BYTES: Final = 512 * 1024
"""Bytes sent at once. Each costs a message, and a copy if the block is larger: 1 GiB takes the server 0.54 s of
processor time in slices of 256 KiB, 0.49 in these, 0.47 in whole blocks (Granian 2.8). The server keeps up to five
of them for a client that takes nothing, outside the byte budget: 160 MiB for the 64 downloads that may run."""

Opening: TypeAlias = Callable[[Span], Awaitable[BlobReader]]


class Delivery:
    """One answer with bytes of a blob."""

    def __init__(
        self, status: int, headers: Headers, parts: Sequence[BodyPart], end: bytes, open_reader: Opening, clock: Clock
    ) -> None:
        """`parts` go out in order, then `end`; `headers` tell the length of it all."""
        self._status, self._headers = status, headers
        self._parts, self._end = parts, end
        self._open = open_reader
        self._pace = Pace(clock)
        self._left = sum(len(part.before) + part.span.length for part in parts)
        """Bytes that have not been sent, but for `end`."""

    async def send(self, reader: BlobReader, receive: Receive, send: Send) -> None:
        """Send all of it; `reader` gives the first part and stays the caller's. Raises ClientGone, TooSlow, and what
        reading does."""
        piece = await anext(reader, None)
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        last = self._parts[0].before + self._end if piece is None else self._end
        if piece is not None:
            if len(self._parts) == 1 and len(piece) == reader.size <= SLICE_BYTES:
                last = self._parts[0].before + _bytes_of(piece) + self._end
            else:
                await self._send_parts(reader, piece, receive, send)
        await self._pace.wait(send({"type": "http.response.body", "body": last}), len(last))

    async def _send_parts(self, reader: BlobReader, piece: memoryview | bytes, receive: Receive, send: Send) -> None:
        try:
            async with left_when_gone(receive):
                await self._send_all(reader, piece, send)
        except ClientGone:
            if self._left:  # else it has everything, and only was quicker to close than we
                raise

    async def _send_all(self, reader: BlobReader, piece: memoryview | bytes, send: Send) -> None:
        first, *others = self._parts
        await self._send(send, first.before)
        await self._send_piece(send, piece)
        await self._send_rest(send, reader)
        await reader.aclose()
        for part in others:
            await self._send(send, part.before)
            async with await self._open(part.span) as next_reader:
                await self._send_rest(send, next_reader)

    async def _send_rest(self, send: Send, reader: BlobReader) -> None:
        async for piece in reader:
            await self._send_piece(send, piece)

    async def _send_piece(self, send: Send, piece: memoryview | bytes) -> None:
        for at in range(0, len(piece), SLICE_BYTES):
            await self._send(send, _bytes_of(piece[at : at + SLICE_BYTES]))

    async def _send(self, send: Send, data: bytes) -> None:
        if data:
            message = {"type": "http.response.body", "body": data, "more_body": True}
            await self._pace.wait(send(message), len(data))
            self._left -= len(data)


def _bytes_of(piece: memoryview | bytes) -> bytes:
    """The server below takes nothing but bytes, and keeps them when the reader's memory has gone back."""
    return piece if isinstance(piece, bytes) else piece.tobytes()


class left_when_gone:  # noqa: N801 - used as a statement
    """`async with`: what is inside is cancelled and raises ClientGone when the client is gone. Nothing else notices:
    what is sent to nobody is simply sent. Ends as `asyncio.timeout` does: a cancellation of somebody else goes on."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "requests are answered by tasks"
        self._owner, self._cancelling = task, task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._owner.cancel()

    async def __aexit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        self._watcher.cancel()
        if self._gone and self._owner.uncancel() <= self._cancelling and isinstance(value, asyncio.CancelledError):
            raise ClientGone("the client left before the end of the answer") from value
