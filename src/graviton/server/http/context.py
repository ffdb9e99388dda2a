"""`Context`: what routes work with: the services, the settings, and what is known about this server."""

from __future__ import annotations

import asyncio
from typing import Final

from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import Services
from graviton.constraints.semaphore import SemaphoreLimit
from graviton.errors import Unsupported
from graviton.services.uploads import Uploads

__all__ = ["FOLLOWERS", "QUESTIONS", "Context"]

WAITING: Final = 64
"""Uploads, and downloads, that may wait for a slot; with several workers each has its part."""

WAIT_SECONDS: Final = 10.0
"""How long: proxies and clients wait for longer, and then know why."""

QUESTIONS: Final = 32
"""Requests with JSON in one process: each is kept as a whole, some megabytes with what is made of it, and nothing else
bounds how many come."""

FOLLOWERS: Final = 256
"""Who may follow the events of one process: each looks at the metadata twice a second where no bell rings."""


class Context:
    """One for each server. A plain class, whose fields the framework leaves alone when it hands it to a route."""

    def __init__(self, services: Services, settings: ServerSettings) -> None:
        self.services = services
        self.settings = settings
        self.uploads = _slots(settings, settings.uploads, "uploads")
        self.downloads = _slots(settings, settings.downloads, "downloads")
        self.questions = SemaphoreLimit(QUESTIONS, WAITING, WAIT_SECONDS, name="questions")
        self.followers = SemaphoreLimit(FOLLOWERS, 0, 0, name="followers of events")
        self.stopping = asyncio.Event()
        """Set when the server was told to stop."""
        self._began = services.clock.monotonic()

    def resumable(self) -> Uploads:
        """The resumable uploads of the store. Raises Unsupported if it has none."""
        uploads = self.services.uploads
        if uploads is None:
            raise Unsupported("the blocks of this store lie where uploads cannot wait", operation="upload")
        return uploads

    def uptime_ms(self) -> int:
        """Milliseconds since the server began."""
        return int((self.services.clock.monotonic() - self._began) * 1000)


def _slots(settings: ServerSettings, count: int, name: str) -> SemaphoreLimit:
    return SemaphoreLimit(settings.share(count), settings.share(WAITING), WAIT_SECONDS, name=name)
