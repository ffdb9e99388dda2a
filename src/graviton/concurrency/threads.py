"""Beginning threads and waiting for their end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from graviton.errors import Unavailable

__all__ = ["joined", "started"]


def started(work: Callable[[], None], name: str) -> threading.Thread:
    """A thread that runs `work`. Raises Unavailable if the system gives none."""
    thread = threading.Thread(target=work, name=name, daemon=True)  # a forgotten aclose must not hang the exit
    try:
        thread.start()
    except RuntimeError as error:
        raise Unavailable(
            f"no thread for the store: {error}",
            operation="thread",
            hint="The limit of threads or memory is reached (ulimit -u, pids.max): end something, then try again.",
        ) from error
    return thread


async def joined(threads: Sequence[threading.Thread], seconds: float | None = None) -> None:
    """Wait for threads that are about to end, without blocking the loop; cancelling does not cut it short. With
    `seconds` at most so long for each: what hangs is left alone then, and ends with the process."""
    if not threads:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def join() -> None:
        for thread in threads:
            thread.join(seconds)
        loop.call_soon_threadsafe(ended.set_result, None)

    try:
        waiting = started(join, "graviton-closing")
    except Unavailable:
        for thread in threads:
            thread.join(seconds)  # better the loop stands still than nothing is closed
        return
    cancelled = False
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            cancelled = True
    waiting.join()
    if cancelled:
        raise asyncio.CancelledError
