"""Settings and services to the ASGI application that Granian runs."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)

from graviton.errors import GravitonError, InvalidInput, NotFound
from graviton.server.http.context import Context
from graviton.server.http.edge import AccessLog, Edge
from graviton.server.http.errors import MethodNotAllowed
from graviton.server.http.gate import Gate
from graviton.server.http.measure import counter_of, show_running
from graviton.server.http.options import options_routes
from graviton.server.http.routes import blobs, docs, events, health, metrics, schema, stats, uploads
from graviton.server.logs import access_log
from graviton.server.tracing import NoTracing, Tracing

__all__ = ["ROUTES", "application"]

ROUTES = [
    *health.ROUTES,
    *blobs.ROUTES,
    *uploads.ROUTES,
    *stats.ROUTES,
    *schema.ROUTES,
    *events.ROUTES,
    *metrics.ROUTES,
    *docs.ROUTES,
]
"""All there are, but for OPTIONS of most paths."""


def application(context: Context, tracing: Tracing | None = None, log: AccessLog = access_log) -> Edge:
    """The whole server as one ASGI application."""
    app = Litestar(
        [*options_routes(ROUTES), *ROUTES],
        dependencies={"context": Provide(lambda: context, sync_to_thread=False, use_cache=True)},
        exception_handlers={Exception: _raise_ours},
        openapi_config=None,
        logging_config=None,
        request_max_body_size=None,  # bodies of blobs are bounded in upload.py, others where they are read
    )
    clock, registry = context.services.clock, context.services.metrics
    gate = Gate(context.settings, clock)
    # Litestar's scope is a TypedDict, that of ASGI any mapping.
    edge = Edge(app, gate, clock, log, counter_of(registry), tracing or NoTracing())  # type: ignore[arg-type]
    registry.on_snapshot(partial(show_running, registry, edge, context))
    return edge


def _raise_ours(request: Request[Any, Any, Any], error: Exception) -> NoReturn:
    """Out to the edge, which answers all errors; the framework's own as ours."""
    raise _ours(request, error) from error


def _ours(request: Request[Any, Any, Any], error: Exception) -> Exception:
    if isinstance(error, GravitonError) or not isinstance(error, HTTPException):
        return error
    path = request.scope["path"][:200]
    if isinstance(error, NotFoundException):
        return NotFound(f"there is nothing at {path}", subject=path, hint="/api/docs lists what there is.")
    if isinstance(error, MethodNotAllowedException):
        allow = (error.headers or {}).get("allow", "")
        return MethodNotAllowed(f"{request.scope['method']} is not for {path}", subject=path, allow=allow)
    if isinstance(error, ValidationException):
        return InvalidInput(_validation_text(error))
    if isinstance(error, ClientException):
        return InvalidInput(error.detail or "the request is malformed")
    return error


def _validation_text(error: ValidationException) -> str:
    """Which parameter is wrong, and how."""
    extra = error.extra if isinstance(error.extra, list) else []
    told = [f"{one.get('key', '?')}: {one.get('message', '')}" for one in extra if isinstance(one, dict)]
    return "; ".join(told)[:1000] or "the request is malformed"
