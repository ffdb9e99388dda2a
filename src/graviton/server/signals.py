"""Signals that tell a server to stop: the first one in order, a second one at once."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

__all__ = ["StopSignals"]

SAME_SECONDS: Final = 0.5
"""A second signal within that time is the first one come twice: from the terminal, and from whatever is around us."""


class StopSignals:
    """SIGTERM, SIGINT and SIGHUP of this process, from when it is made. Who ignores one (nohup) goes on ignoring it."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._first_at = 0.0
        self.exit_code = 0
        """What the process ends with: 0 unless somebody was in a hurry."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                loop.add_signal_handler(signum, self._take, signum)

    def _take(self, signum: int) -> None:
        now = asyncio.get_running_loop().time()
        if not self.first.is_set():
            self._first_at = now
            self.first.set()
        elif now - self._first_at > SAME_SECONDS:
            self.second.set()
            self.exit_code = 128 + signum
