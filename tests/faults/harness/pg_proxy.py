"""A proxy in front of a PostgreSQL server that breaks the connection at the n-th message, as networks do.

It understands as much of the protocol as is needed to count what the client sends: a type and a length before each
message. https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from types import TracebackType

__all__ = ["BreakingProxy"]

_SOCKET = ".s.PGSQL.5432"
_PIECE = 65_536


class BreakingProxy:
    """Listens in a folder of its own. `cut(n)`: the next connections are broken at the n-th message that a client sends
    from now on, which the server gets (`delivered`) or not; once, then everything passes."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.folder = folder
        self._server = server / _SOCKET
        self._left = -1
        self._delivered = False
        self.was_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> BreakingProxy:
        self._listener = await asyncio.start_unix_server(self._serve, self.folder / _SOCKET)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, message: int, delivered: bool) -> None:
        """Break at that message, counted from 0."""
        self._left, self._delivered, self.was_cut = message, delivered, False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            back, forth = await asyncio.open_unix_connection(str(self._server))
            answers = asyncio.create_task(_copy(back, writer))
            try:
                await self._requests(reader, forth)
            finally:
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
                forth.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        begin = await reader.readexactly(4)  # the first message of a connection has no type
        forth.write(begin + await reader.readexactly(struct.unpack("!i", begin)[0] - 4))
        while True:
            head = await reader.readexactly(5)
            message = head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
            if self._left == 0:
                self._left, self.was_cut = -1, True
                if self._delivered:
                    forth.write(message)
                    await forth.drain()
                    await asyncio.sleep(0.02)  # it is being carried out while the client loses its connection
                return
            if self._left > 0:
                self._left -= 1
            forth.write(message)
            await forth.drain()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    writer.close()
