"""`InMemoryEventSink`: the reference for `EventSink`, a bounded ring of the latest events."""

from __future__ import annotations

import threading
from collections import deque

from graviton.errors import InvalidInput
from graviton.ports.events import Event, EventSink

__all__ = ["InMemoryEventSink"]

DEFAULT_CAPACITY = 10_000
"""Events kept: some megabytes at most, and more than a person scrolls through."""


class InMemoryEventSink(EventSink):
    """Keeps the latest `capacity` events; each that has to make room is counted in `dropped`."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        """Raises InvalidInput unless `capacity` is at least 1."""
        if capacity < 1:
            raise InvalidInput(f"a sink keeps at least one event, not {capacity}")
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=capacity)
        self._emitted = 0

    @property
    def dropped(self) -> int:
        with self._lock:
            return self._emitted - len(self._events)

    @property
    def events(self) -> list[Event]:
        """What is kept, oldest first."""
        with self._lock:
            return list(self._events)

    def emit(self, event: Event) -> None:
        with self._lock:
            self._emitted += 1
            self._events.append(event)
