"""`/metrics`: for Prometheus."""

from __future__ import annotations

from litestar import Response, get

from graviton.server.http.context import Context
from graviton.server.http.exposition import CONTENT_TYPE, exposition

__all__ = ["ROUTES"]


@get("/metrics")
async def metrics(context: Context) -> Response[bytes]:
    """All metrics of this server."""
    return Response(
        exposition(context.services.metrics), media_type=CONTENT_TYPE, headers={"cache-control": "no-store"}
    )


ROUTES = [metrics]
