"""The bell: what wakes followers of events in this process. It says that there may be something to read, and nothing
else. Other processes are not heard; for their sake followers look from time to time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

from graviton.ports.kv import KeyValueStore

__all__ = ["EventBell", "bell_of"]


class EventBell:
    """Of one open store. Usable from several threads and event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def ring(self) -> None:
        """Wake everybody who listens; costs nothing if nobody does."""
        if not self._listening:
            return
        with self._lock:
            listening = list(self._listening.items())
        for rung, loop in listening:
            with suppress(RuntimeError):  # its loop was closed, and the follower with it
                loop.call_soon_threadsafe(rung.set)

    @contextmanager
    def listen(self) -> Iterator[asyncio.Event]:
        """Inside the block the event is set whenever the bell rings. Whoever is done with it clears it."""
        rung = asyncio.Event()
        with self._lock:
            self._listening[rung] = asyncio.get_running_loop()
        try:
            yield rung
        finally:
            with self._lock:
                del self._listening[rung]


_bells: WeakKeyDictionary[KeyValueStore, EventBell] = WeakKeyDictionary()
_bells_lock = threading.Lock()


def bell_of(kv: KeyValueStore) -> EventBell:
    """The bell of an open store: whoever writes through that object rings it, whichever ports he made over it."""
    with _bells_lock:
        return _bells.setdefault(kv, EventBell())
