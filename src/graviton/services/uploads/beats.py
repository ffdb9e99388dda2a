"""Signs of life of requests that have no turn: what they bring is seen by nobody before all of it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.errors import GravitonError, NotFound
from graviton.services.uploads import records
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.values import UploadId

__all__ = ["BEAT_SECONDS", "kept_alive"]

BEAT_SECONDS = 5.0
"""How often whoever is at an upload says so, and learns that it went, if nothing else tells it."""


@asynccontextmanager
async def kept_alive(kit: Kit, id: UploadId) -> AsyncIterator[None]:
    """The upload does not expire meanwhile, however long that takes."""
    beat = asyncio.ensure_future(_beat(kit, id))
    try:
        yield
    finally:
        beat.cancel()
        await finish_anyway(until_done(beat))


async def _beat(kit: Kit, id: UploadId) -> None:
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        try:
            row = await kit.note(partial(records.touch, id=id, now_ns=kit.now_ns()))
            await kit.keep_session(id, row)
        except NotFound:
            return  # told when the bytes are to be registered
        except GravitonError:
            continue  # likewise
