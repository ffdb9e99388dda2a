"""`Outbox`: what happened in a metadata store, whoever made it happen, told to those who must miss nothing of it.

Laws:
- An event is there exactly if its change is: one transaction writes both. `blob.committed` tells that a manifest became
  that of a blob: a new one, one that was deleted and is back, or one in the place of one that could not be relied on.
  `blob.deleted` tells that the last holder went, `block.damaged` that a stored block was found missing or wrong.
  Merging into a blob, and a holder that is not the last, are no events. `data` has `domain` unless that is the default
  one, and for `blob.committed` the number of `blocks`. Restoring a backup, and moving metadata, tell of nothing.
- Events come in an order in which each is after all that its change depended on: those of one blob, or block, are in
  the order of its changes. Those that have nothing to do with each other may come to somebody else in another order.
- With each comes the position after it, a printable text of at most 64 KiB without spaces. Whoever goes on from there
  is given every later event. He keeps the position when he is done with an event: at least once, so one may come again.
- Without a position a follower begins with the first event that is kept.
- What is no position is refused with InvalidInput; one with NotFound if events after it were removed, or may have been,
  or if it belongs to another stream: the metadata was restored, moved, or put back to an earlier state. So it is at
  each look: a follower that is too slow is told, too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from graviton.errors import InvalidInput, NotFound
from graviton.ports.events import Event

__all__ = [
    "MAX_READ",
    "MAX_TRIM",
    "READ_EVENTS",
    "Outbox",
    "check_read_limit",
    "check_trim_limit",
    "events_are_gone",
    "no_position",
    "stream_of",
]

READ_EVENTS = 500
"""Events read at once unless told otherwise: some 200 KB."""

MAX_READ = 10_000
"""Events read at once, at most: some megabytes."""

MAX_TRIM = 10_000
"""Events removed by one transaction, at most: a fraction of a second."""

_OPERATION = "events.follow"

_BEGINNING = re.compile(r"([0-9a-f]{32}):[!-~]*", re.ASCII)


class Outbox(ABC):
    """The events of one metadata store; see the module docstring for the laws."""

    @abstractmethod
    async def read(self, after: str | None = None, limit: int = READ_EVENTS) -> list[tuple[str, Event]]:
        """Up to `limit` (1 to MAX_READ) events, and the position after each; none only if there are no more now. Waits
        for nobody. Raises InvalidInput, NotFound, and what the store raises."""

    @abstractmethod
    def follow(self, after: str | None = None) -> AsyncIterator[tuple[str, Event]]:
        """Events and the position after each, for ever: those that are there, then the rest as they come. Raises as
        `read` does. Leave it by `contextlib.aclosing`: waiting, it may hold a connection."""

    @abstractmethod
    async def latest(self) -> str:
        """The position after everything that is committed now."""

    @abstractmethod
    async def trim(self, before_ns: int, limit: int = MAX_TRIM) -> int:
        """Remove up to `limit` (1 to MAX_TRIM) of the oldest events, those from before `before_ns`; how many. Fewer
        than `limit`: no more can be removed now. An event stays as long as an earlier one does. Raises InvalidInput."""


# What all implementations say in the same way.


def check_read_limit(limit: int) -> None:
    """Raise InvalidInput unless so many events can be read at once."""
    if not 1 <= limit <= MAX_READ:
        raise InvalidInput(f"1 to {MAX_READ} events are read at once, not {limit}", operation=_OPERATION)


def check_trim_limit(limit: int) -> None:
    """Raise InvalidInput unless so many events can be removed at once."""
    if not 1 <= limit <= MAX_TRIM:
        raise InvalidInput(f"a trim removes 1 to {MAX_TRIM} events, not {limit}", operation="events.trim")


def stream_of(position: str) -> str | None:
    """The stream of a position of any kind of outbox, which each begins with; None if the text is no position."""
    match = _BEGINNING.fullmatch(position)
    return None if match is None else match[1]


def no_position(text: str) -> InvalidInput:
    """The error for a text that is none."""
    return InvalidInput(
        f"{text[:80]!r} is not a position of an event",
        operation=_OPERATION,
        hint="Give back what the follower gave with an event, unchanged.",
    )


def events_are_gone(what: str, subject: str = "") -> NotFound:
    """The error for a position that may lack events."""
    return NotFound(
        what,
        operation=_OPERATION,
        subject=subject,
        hint="Follow without a position, which gives everything that is kept, some of it again; and compare with the"
        " list of blobs, because some events may be gone.",
    )
