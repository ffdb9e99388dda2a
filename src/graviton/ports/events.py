"""`EventSink`: structured facts about what happened, for people and programs that follow along.

Laws:
- `emit` never raises, never blocks, and may be called from any thread; what cannot be delivered is counted, not lost
  silently (`dropped`).
- Events of one sink are delivered in the order they were emitted.
- An event is emitted after the fact is durable, at most once, by the process that made it: following a sink is best
  effort. Who must miss nothing, of any process, follows the `Outbox` of the metadata: events written in the
  transaction of the change, and told at least once (`ports/outbox.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Event", "EventKind", "EventSink", "NoEvents"]


class EventKind(StrEnum):
    """What happened; the values are stable names."""

    BLOCK_STORED = "block.stored"
    BLOCK_DUPLICATE = "block.duplicate"
    BLOCK_DAMAGED = "block.damaged"
    BLOB_COMMITTED = "blob.committed"
    BLOB_DELETED = "blob.deleted"
    REPLICA_LOST = "replica.lost"
    REPLICA_REPAIRED = "replica.repaired"
    BACKEND_FAILED = "backend.failed"
    GC_FINISHED = "gc.finished"
    SCRUB_FINISHED = "scrub.finished"


class Event(NamedTuple):
    """One fact."""

    kind: EventKind
    at_ns: int
    """UTC nanoseconds."""
    subject: str
    """Key text or locator; no secrets."""
    data: Mapping[str, str | int] = {}


class EventSink(ABC):
    """Where components tell; see the module docstring for the laws."""

    @property
    def dropped(self) -> int:
        """Events that could not be delivered since the start."""
        return 0

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Take one event."""


class NoEvents(EventSink):
    """Keeps nothing."""

    def emit(self, event: Event) -> None:
        pass
