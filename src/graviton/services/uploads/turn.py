"""One writer's turn at an upload, as it is known in memory."""

from __future__ import annotations

import asyncio
import secrets

from graviton.errors import StorageFull
from graviton.metadata.upload_rows import UploadRow
from graviton.services.uploads.parts import BytesLostError
from graviton.services.uploads.sources import Feed
from graviton.services.uploads.values import UploadId

__all__ = ["StoppedError", "Turn"]


class StoppedError(Exception):
    """A writer was told to stop, and has nothing more to store."""


class Turn:
    """One writer's turn. Only `stop` is for others."""

    row: UploadRow
    """As it was when this writer changed it last."""

    def __init__(self, id: UploadId) -> None:
        self.id = id
        self.token = secrets.token_hex(16)
        self.feed: Feed | None = None
        self.is_clean = False
        """Every claim of the session is confirmed: the next writer may go on under it."""
        self.has_left = False
        """The token was taken out with the last change."""
        self.committed: int | None = None
        """The session of an earlier writer that had committed the blob already."""
        self.lost: BytesLostError | None = None
        """Why what is cut cannot be relied on any more."""
        self.refused: StorageFull | None = None
        """There is no room for its bytes, unless all of it is there already."""
        self.is_stopping = False
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Have the writer store what it has, and end."""
        self.is_stopping = True
        if self.feed is not None:
            self.feed.stop()

    def check(self) -> None:
        """Called between steps that store nothing. Raises StoppedError."""
        if self.is_stopping:
            raise StoppedError

    def check_fresh(self) -> None:
        """Called before new blocks are written. Raises StorageFull."""
        if self.refused is not None:
            raise self.refused

    def begin(self, feed: Feed | None) -> None:
        """What the writer reads, which stops with it."""
        self.feed = feed
        if self.is_stopping:
            self.stop()

    def end(self) -> None:
        """Called when the writer has ended."""
        self._over.set()

    async def over(self) -> None:
        """Wait for the end."""
        await self._over.wait()
