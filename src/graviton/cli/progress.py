"""Progress bars on a terminal. Nothing is counted for them on the way of the data: the bar looks at the file now and
then. What is done at once shows none, and rich is loaded only for a bar that appears.
"""

from __future__ import annotations

import asyncio
import io
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from graviton.cli.output import Output, path_text

__all__ = ["watch_growth", "watch_position"]

_MIN_BYTES = 32 * 1024 * 1024
"""Smaller files are done before anybody could read a bar."""

_BEGIN_SECONDS = 0.4
_TICK_SECONDS = 0.1


@asynccontextmanager
async def watch_position(out: Output, file: io.FileIO, label: str) -> AsyncIterator[None]:
    """A bar for reading the regular file `file`, while the block runs."""
    info = os.fstat(file.fileno())
    if not stat.S_ISREG(info.st_mode):
        yield
        return
    fd = file.fileno()
    async with _bar(out, label, info.st_size, lambda: os.lseek(fd, 0, os.SEEK_CUR)):
        yield


@asynccontextmanager
async def watch_growth(out: Output, look: Callable[[], int], total: int, label: str) -> AsyncIterator[None]:
    """A bar for something of `total` bytes of which `look()` are done, while the block runs."""
    async with _bar(out, label, total, look):
        yield


@asynccontextmanager
async def _bar(out: Output, label: str, total: int, look: Callable[[], int]) -> AsyncIterator[None]:
    if total < _MIN_BYTES or not out.shows_progress:
        yield
        return
    drawing = asyncio.ensure_future(_draw(path_text(label), total, look))
    try:
        yield
    finally:
        drawing.cancel()
        await asyncio.wait([drawing])
        if not drawing.cancelled():
            drawing.exception()  # a bar that cannot be drawn is no reason to fail


async def _draw(label: str, total: int, look: Callable[[], int]) -> None:
    await asyncio.sleep(_BEGIN_SECONDS)
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    # auto_refresh would be a thread of its own; transient takes the bar away in the end.
    progress = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
    with progress:
        task = progress.add_task(escape(os.path.basename(label)), total=total)
        while True:
            progress.update(task, completed=min(total, look()), refresh=True)
            await asyncio.sleep(_TICK_SECONDS)
