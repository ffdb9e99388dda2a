"""`Context`: what routes work with: the services, the settings, and what is known about this server."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import Services

__all__ = ["Context", "Slots"]

Slots: TypeAlias = AbstractAsyncContextManager[object]
"""So many at once: entering waits for a place, or raises TooManyRequests. Entered by many tasks at a time."""


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
