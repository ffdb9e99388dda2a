"""`/api/health`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

import msgspec
from litestar import get

from graviton._version import __version__
from graviton.server.http.context import Context

__all__ = ["health"]


class Health(msgspec.Struct):
    """The process answers."""

    status: str
    version: str
    uptime: int
    """Milliseconds since the server began."""


@get("/api/health", summary="Whether the server lives", tags=["health"])
async def health(context: Context) -> Health:
    """Asks nothing but the process itself; needs no token."""
    return Health("ok", __version__, context.uptime_ms())
