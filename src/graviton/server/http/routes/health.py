"""`/api/health`: whether the process lives, and whether it can do its work. Nobody needs a token for that."""

from __future__ import annotations

import logging

from litestar import Response, get

from graviton._version import __version__
from graviton.server.http.context import Context
from graviton.server.http.models import Health, Ready

__all__ = ["ROUTES"]

_log = logging.getLogger("graviton.server")


@get("/api/health")
async def health(context: Context) -> Health:
    """Asks nothing but the process itself."""
    return Health("ok", __version__, context.uptime_ms())


@get("/api/health/ready")
async def ready(context: Context) -> Response[Ready]:
    """Asks the metadata, the blocks and the disk. What exactly is wrong stands in the log: it may be a path, and
    everybody may ask here."""
    parts = await context.services.readiness.parts()
    for part in parts:
        if not part.is_able:
            _log.warning("not ready: %s: %s", part.name, part.why)
    told = {part.name: "ok" if part.is_able else "unable" for part in parts}
    if context.stopping.is_set():
        return Response(Ready("stopping", told), status_code=503)
    is_able = all(part.is_able for part in parts)
    return Response(Ready("ok" if is_able else "unable", told), status_code=200 if is_able else 503)


ROUTES = [health, ready]
