"""`Context`: what routes work with: the services, the settings, and what is known about this server."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import Services

__all__ = ["Context", "Slots"]


class Slots:
    """So many at once, and how many that are. Use as `async with`: waits for a place, or raises TooManyRequests."""

    def __init__(self, limit: AbstractAsyncContextManager[object]) -> None:
        """`limit` is entered by many tasks at a time."""
        self._limit = limit
        self.running = 0
        self.waiting = 0

    async def __aenter__(self) -> None:
        self.waiting += 1
        try:
            await self._limit.__aenter__()
        finally:
            self.waiting -= 1
        self.running += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running -= 1
        await self._limit.__aexit__(kind, value, trace)


class Context:
    """One for each server. A plain class, whose fields the framework leaves alone when it hands it to a route."""

    def __init__(
        self, services: Services, settings: ServerSettings, *, uploads: Slots, downloads: Slots, followers: Slots
    ) -> None:
        self.services = services
        self.settings = settings
        self.uploads = uploads
        self.downloads = downloads
        self.followers = followers
        self.stopping = asyncio.Event()
        """Set when the server was told to stop."""
        self._began = services.clock.monotonic()

    def uptime_ms(self) -> int:
        """Milliseconds since the server began."""
        return int((self.services.clock.monotonic() - self._began) * 1000)
