"""Changes of one thing, one after the other, whatever event loop they come from."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from graviton.constraints.budget import ByteBudget

__all__ = ["Turns"]


class _Turn:
    def __init__(self) -> None:
        self.free = ByteBudget(1)
        self.users = 0


class Turns:
    """First come first served, by name. Nothing is kept of a name that nobody waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[None]:
        """Be the only one who works on `name`."""
        with self._lock:
            turn = self._turns.setdefault(name, _Turn())
            turn.users += 1
        try:
            await turn.free.acquire(1)
            try:
                yield
            finally:
                turn.free.release(1)
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[name]
