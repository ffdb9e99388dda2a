"""`Context`: what routes work with: the services, the settings, and what is known about this server."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, TypeAlias

from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import Services

__all__ = ["Context", "Slots"]

Slots: TypeAlias = AbstractAsyncContextManager[object]
"""So many at once: entering waits for a place, or raises TooManyRequests. Entered by many tasks at a time."""


class Context(NamedTuple):
    """One for each server."""

    services: Services
    settings: ServerSettings
    uploads: Slots
    downloads: Slots
    stopping: asyncio.Event
    """Set when the server was told to stop."""
    began: float
    """Of the clock's `monotonic`."""

    def uptime_ms(self) -> int:
        """Milliseconds since the server began."""
        return int((self.services.clock.monotonic() - self.began) * 1000)
