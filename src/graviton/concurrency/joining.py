"""Waiting for threads to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

__all__ = ["joined"]


async def joined(threads: Sequence[threading.Thread]) -> None:
    """Wait for threads that are about to end, without blocking the loop; cancelling does not cut it short."""
    if not threads:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def wait() -> None:
        for thread in threads:
            thread.join()
        loop.call_soon_threadsafe(ended.set_result, None)

    waiting = threading.Thread(target=wait, name="graviton-closing", daemon=True)
    waiting.start()
    cancelled = False
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            cancelled = True
    waiting.join()
    if cancelled:
        raise asyncio.CancelledError
