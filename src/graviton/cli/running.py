"""Running a command's coroutine so that Ctrl-C and SIGTERM cancel it, and it cleans up before the process ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from graviton.cli.errors import Interrupted

__all__ = ["run_async"]

_T = TypeVar("_T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_async(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`. A signal cancels it once; when it has cleaned up, Interrupted is raised.

    Whoever ignores a signal (nohup) goes on ignoring it. Work that ends well in spite of the signal has ended well.
    """
    with asyncio.Runner() as runner:
        caught: list[int] = []
        watched: asyncio.Task[_T] | None = None

        def stop(signum: int) -> None:
            if watched is not None and not caught:
                watched.cancel()
            caught.append(signum)

        async def watch() -> _T:
            nonlocal watched
            watched = asyncio.ensure_future(work)
            if caught:
                watched.cancel()
            return await watched

        loop = runner.get_loop()
        for signum in _SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                loop.add_signal_handler(signum, stop, signum)
        try:
            return runner.run(watch())
        except BaseException as error:
            if caught and not isinstance(error, SystemExit):
                raise Interrupted(caught[0]) from error
            raise
