"""`/api/events`: what happens in the store, whoever makes it happen, as it happens."""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.types import ASGIApp

from graviton.errors import InvalidInput, Unsupported
from graviton.server.http.asgi import Scope, header
from graviton.server.http.context import Context
from graviton.server.http.events import MAX_POSITION_CHARS, EventFilter, EventStream, parse_kinds

__all__ = ["ROUTES"]

FROM_FIRST = "first"
"""In place of a position: everything that is kept."""


@get("/api/events")
async def events(
    request: Request[Any, Any, Any], context: Context, after: str | None = None, kind: str = "", prefix: str = ""
) -> ASGIApp:
    """Events after a position (Last-Event-ID, or `after` where that is not given), else from now on."""
    outbox = context.services.outbox
    if outbox is None:
        raise Unsupported("the metadata of this store keep no events", operation="events")
    scope: Scope = request.scope  # type: ignore[assignment]
    position = header(scope, b"last-event-id") or after
    if position is None:
        position = await outbox.latest()
    elif len(position) > MAX_POSITION_CHARS or not position.isascii() or not position.isprintable():
        raise InvalidInput("the position is none that this server gave", subject="Last-Event-ID")
    wanted = EventFilter(parse_kinds(kind), prefix)
    start = None if position == FROM_FIRST else position
    return EventStream(outbox, start, wanted, context)  # type: ignore[return-value]


ROUTES = [events]
