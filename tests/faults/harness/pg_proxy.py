"""A proxy in front of a PostgreSQL server that does something at the n-th message: breaks the connection, as networks
do, holds everything back, as a frozen client does, or has the server killed.

It understands as much of the protocol as is needed to count what the client sends: a type and a length before each
message. https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType

__all__ = ["BreakingProxy"]

_SOCKET = ".s.PGSQL.5432"
_PIECE = 65_536


class BreakingProxy:
    """Listens in a folder of its own. Something happens at the n-th message that clients send from now on, counted from
    0 over all connections; once, then everything passes. A message is delivered to the server before, or never."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.folder = folder
        self._server = server / _SOCKET
        self._left = -1
        self._act: Callable[[], Awaitable[object]] = _nothing
        self._delivered = False
        self.messages = 0
        """How many there were."""
        self.was_cut = False
        """The message has come, and what was to happen has happened, or is happening."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> BreakingProxy:
        self._listener = await asyncio.start_unix_server(self._serve, self.folder / _SOCKET)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        await asyncio.sleep(0)  # who has just been let in begins
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, message: int, delivered: bool) -> None:
        """Break the connection at that message."""
        # Delivered, it is being carried out while the client loses its connection.
        self._at(message, delivered, _shortly if delivered else _nothing)

    def stall(self, message: int) -> None:
        """Let nothing more of that connection pass, and close nothing."""
        self._at(message, False, _for_ever)

    def call(self, message: int, delivered: bool, act: Callable[[], Awaitable[object]]) -> None:
        """Have something done at that message, while whoever sent it waits; then his connection is broken."""
        self._at(message, delivered, act)

    def _at(self, message: int, delivered: bool, act: Callable[[], Awaitable[object]]) -> None:
        self._left, self._delivered, self._act, self.was_cut = message, delivered, act, False

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
                forth.close()  # first: waiting may be cut short
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
        except (ConnectionError, FileNotFoundError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two is gone, or the proxy ends
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        begin = await reader.readexactly(4)  # the first message of a connection has no type
        forth.write(begin + await reader.readexactly(struct.unpack("!i", begin)[0] - 4))
        while True:
            head = await reader.readexactly(5)
            message = head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)
            self.messages += 1
            if self._left == 0:
                self._left, self.was_cut = -1, True
                if self._delivered:
                    forth.write(message)
                    await forth.drain()
                await self._act()
                return
            if self._left > 0:
                self._left -= 1
            forth.write(message)
            await forth.drain()


async def _nothing() -> None:
    pass


async def _shortly() -> None:
    await asyncio.sleep(0.02)


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass  # a server that is killed with something unread
    finally:
        writer.close()
