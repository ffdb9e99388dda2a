"""Changes of one thing, one after the other, whatever event loop they come from."""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from graviton.constraints.budget import ByteBudget

__all__ = ["Turns"]


class _Turn:
    def __init__(self) -> None:
        self.free = ByteBudget(1)
        self.users = 0


class Turns:
    """First come first served, by name. Nothing is kept of a name that nobody waits for."""

    _places: ClassVar[weakref.WeakValueDictionary[tuple[str, ...], Turns]] = weakref.WeakValueDictionary()
    _making: ClassVar = threading.Lock()

    @classmethod
    def of(cls, *place: str) -> Turns:
        """Those of a place, the same for all in this process that work there."""
        with cls._making:
            return cls._places.setdefault(place, cls())

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
