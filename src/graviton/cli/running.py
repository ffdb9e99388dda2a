"""Running a command's coroutine so that Ctrl-C and SIGTERM cancel it, and it cleans up before the process ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from graviton.cli.errors import Interrupted

__all__ = ["run_async"]

_T = TypeVar("_T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_async(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """The result of `work()`. A signal cancels it once; when it has cleaned up, Interrupted is raised. A signal that
    comes before it begins keeps it from beginning: no coroutine is made that nobody would await.

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
            if caught:
                raise asyncio.CancelledError
            watched = asyncio.ensure_future(work())
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
