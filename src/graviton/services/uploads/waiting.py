"""Waiting for the blob of an upload, whoever makes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from graviton.errors import Conflict
from graviton.metadata.upload_rows import UploadState
from graviton.services.uploads.background import Background, is_unfinished
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.looking import Looking
from graviton.services.uploads.records import Overtaken
from graviton.services.uploads.sweeping import Sweeping
from graviton.services.uploads.turn import StoppedError
from graviton.services.uploads.values import UploadId, UploadStatus

__all__ = ["Waiting"]

_POLL_SECONDS = 0.25
"""How often somebody looks whether another process has finished an upload."""


class Waiting:
    """For work of this process, which raises what is wrong, or of another one, at which it looks now and then."""

    def __init__(
        self,
        kit: Kit,
        background: Background,
        sweeping: Sweeping,
        looking: Looking,
        check_open: Callable[[], None],
    ) -> None:
        self._kit, self._background, self._sweeping, self._looking = kit, background, sweeping, looking
        self._check_open = check_open

    async def finish(self, id: UploadId, wait_seconds: float) -> UploadStatus:
        """See `Uploads.finish`."""
        until = asyncio.get_running_loop().time() + wait_seconds
        while True:
            row = await self._kit.load(id)
            if not is_unfinished(row):
                if row.state is UploadState.RECEIVING and not row.is_complete:
                    raise _incomplete(id, row.offset, row.length)
                return await self._looking.status(id)
            left = until - asyncio.get_running_loop().time()
            if self._background.of(id) is None and self._sweeping.is_stale(row):
                self._background.begin(id)
            if left <= 0:
                return await self._looking.status(id)
            await self._wait(id, left)

    async def _wait(self, id: UploadId, seconds: float) -> None:
        """For our own work on an upload, which raises what is wrong with it, or a little, for that of others."""
        task = self._background.of(id)
        if task is not None:
            await asyncio.wait([task], timeout=seconds)
            if not task.done() or task.cancelled():
                return
            error = task.exception()
            if error is None:
                return
            if isinstance(error, StoppedError):
                self._check_open()
            elif not isinstance(error, Overtaken):
                raise error
        await asyncio.sleep(min(seconds, _POLL_SECONDS))


def _incomplete(id: UploadId, offset: int, length: int | None) -> Conflict:
    what = "its length was not declared" if length is None else f"{offset} of its {length} bytes are there in a row"
    return Conflict(
        f"upload {id} cannot be finished: {what}", operation="upload", subject=id, hint="Send what is missing first."
    )
