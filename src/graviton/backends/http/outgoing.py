"""A request on its way out, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from graviton.backends.http.errors import strange

__all__ = ["Answer", "Outgoing"]


class Answer(NamedTuple):
    """An answer that is a success, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, operation: str, subject: str = "") -> Any:
        """The body. Raises Unavailable if it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise strange("it is no JSON", operation, subject) from None


class Outgoing:
    """What a request sends, and how far that is. This one has no body."""

    size: int | None = None
    """Bytes of the body, where that is promised."""
    has_bytes = False
    """There is a body: this is an async iterator of pieces of it."""
    asks_first = False
    """The body waits for the server to say that it wants it: who is refused has not sent it in vain."""
    is_asking = False
    """It waits for that now."""
    has_begun = False
    """Bytes of the body were taken for the request."""
    may_be_whole = False
    """The server may have all of it, and act on it."""
    failure: BaseException | None = None
    """What the source raised: the reason for whatever became of the request."""
    answer: Answer | None = None
    """What came of it, also if the one who asked was cancelled meanwhile."""
    idle: asyncio.Timeout | None = None
    """Ends the request."""

    def put_off(self, seconds: float | None) -> None:
        """End the request in so many seconds, or never: to be called when a piece goes out, and while the source is
        asked for one."""
        if self.idle is not None and not self.idle.expired():
            until = None if seconds is None else asyncio.get_running_loop().time() + seconds
            try:
                self.idle.reschedule(until)
            except RuntimeError:
                pass  # the request has ended, and what is written now goes nowhere
