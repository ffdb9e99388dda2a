"""Everything but blobs, described."""

from __future__ import annotations

from typing import Final

from graviton.ports.events import EventKind
from graviton.server.http.models import Health, Ready, SchemaInfo, SchemaNames, Stats
from graviton.server.http.openapi.parts import DOMAIN, Json, answer, head, json_answer, operation, query

__all__ = ["PATHS"]

_HEALTH: Final = operation(
    "health",
    "health",
    "Whether the server lives",
    "Asks nothing but the process itself. Needs no token.",
    {200: json_answer("It lives.", Health, {"status": "ok", "version": "0.1.0", "uptime": 12345})},
    is_open=True,
    curl="curl $URL/api/health",
)

_READY: Final = operation(
    "ready",
    "health",
    "Whether the server can do its work",
    "Asks the metadata, the blocks and the disk, each for two seconds at most. Needs no token.",
    {
        200: json_answer("It can.", Ready, {"status": "ok", "parts": {"metadata": "ok", "blocks": "ok", "disk": "ok"}}),
        503: json_answer(
            "It cannot, or is being stopped.",
            Ready,
            {"status": "unable", "parts": {"metadata": "ok", "blocks": "ok", "disk": "unable"}},
        ),
    },
    is_open=True,
    curl="curl $URL/api/health/ready",
)

_STATS: Final = operation(
    "stats",
    "store",
    "Totals of the store",
    "What is stored and what deduplication saves, from sums that are kept with every change.",
    {200: json_answer("The totals.", Stats)},
    parameters=[DOMAIN],
    curl="curl $URL/api/stats",
)

_SCHEMAS: Final = operation(
    "schemaNames",
    "store",
    "Schemas",
    "Names and versions of the descriptions of its formats that the store keeps.",
    {200: json_answer("All of them.", SchemaNames, {"schemas": [{"name": "graviton.listing", "versions": [1]}]})},
    curl="curl $URL/api/schema",
)

_SCHEMA: Final = operation(
    "schema",
    "store",
    "A schema",
    "One version of a schema, the newest unless another is asked for.",
    {200: json_answer("The schema.", SchemaInfo)},
    parameters=[
        {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^[a-z][a-z0-9._-]{0,63}$", "examples": ["graviton.listing"]},
        },
        query("version", {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}, "Which version."),
    ],
    fails=(404,),
    curl="curl $URL/api/schema/graviton.listing",
)

_EVENTS: Final = operation(
    "events",
    "events",
    "Follow events",
    "What happens in the store, whoever makes it happen, as Server-Sent Events. The `id` of each is the position after"
    " it: who gives the last one he has seen (`Last-Event-ID`, as browsers do by themselves) misses none, and may get"
    " one again. It begins with now unless a position is given. An `id` alone comes at the beginning and as heartbeat."
    " An event `failed` holds a problem, and ends the stream. A follower that takes nothing for 30 seconds is dropped.",
    {
        200: answer(
            "Events without end.",
            content={
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: POSITION\nevent: blob.committed\ndata: {"kind":"blob.committed",'
                    '"at":"2026-01-31T12:34:56.123456789Z","subject":"ID","data":{"blocks":1}}\n\n',
                }
            },
        )
    },
    parameters=[
        head("Last-Event-ID", "Go on after this position."),
        query("after", {"type": "string"}, "The same; `first` begins with the first event that is kept."),
        query("kind", {"type": "string"}, f"Only these kinds, with commas between them: {', '.join(EventKind)}."),
        query("prefix", {"type": "string"}, "Only subjects that begin so."),
    ],
    fails=(410, 501),
    curl="curl -N '$URL/api/events?kind=blob.committed,blob.deleted'",
)

_METRICS: Final = operation(
    "metrics",
    "metrics",
    "Metrics for Prometheus",
    "In its text format.",
    {200: answer("All of them.", content={"text/plain": {"schema": {"type": "string"}}})},
    curl="curl $URL/metrics",
)

_DOCUMENT: Final = operation(
    "openapi",
    "documentation",
    "This description",
    "As an OpenAPI 3.1 document.",
    {200: answer("The document.", content={"application/json": {"schema": {"type": "object"}}})},
    curl="curl $URL/api/openapi.json",
)

_PAGE: Final = operation(
    "docs",
    "documentation",
    "This description, to be read",
    "As a page, without any script.",
    {200: answer("The page.", content={"text/html": {"schema": {"type": "string"}}})},
    curl="curl $URL/api/docs",
)

PATHS: Final[Json] = {
    "/api/health": {"get": _HEALTH},
    "/api/health/ready": {"get": _READY},
    "/api/stats": {"get": _STATS},
    "/api/schema": {"get": _SCHEMAS},
    "/api/schema/{name}": {"get": _SCHEMA},
    "/api/events": {"get": _EVENTS},
    "/metrics": {"get": _METRICS},
    "/api/openapi.json": {"get": _DOCUMENT},
    "/api/docs": {"get": _PAGE},
}
