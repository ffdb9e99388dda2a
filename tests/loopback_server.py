"""A server of a test, on a free port of this machine: its connections end with it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Self

__all__ = ["LoopbackServer"]


class LoopbackServer:
    """What `serve` does with a connection is the business of the class that inherits."""

    def __init__(self, tls: ssl.SSLContext | None = None, limit: int = 65536) -> None:
        """`limit` is how many bytes of a connection are read ahead."""
        self._tls, self._limit = tls, limit
        self._going_on: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many came."""

    @property
    def open_connections(self) -> int:
        """How many clients have open."""
        return len(self._going_on)

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=self._limit)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._listener.close()
        for task in self._going_on:
            task.cancel()
        await asyncio.gather(*self._going_on, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._going_on.add(task)
        self.connections += 1
        try:
            await self.serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server did
        finally:
            writer.close()
            self._going_on.discard(task)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Have a connection from its beginning to its end."""
        raise NotImplementedError
