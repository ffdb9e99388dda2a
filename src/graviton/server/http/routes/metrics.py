"""`/metrics`: for Prometheus."""

from __future__ import annotations

from litestar import Response, get

from graviton.concurrency.executors import in_own_thread
from graviton.server.http.context import Context

__all__ = ["ROUTES"]


@get("/metrics")
async def metrics(context: Context) -> Response[bytes]:
    """All metrics of this server."""
    kind, text = await in_own_thread(context.services.metrics.exposition)
    return Response(text, media_type=kind, headers={"cache-control": "no-store"})


ROUTES = [metrics]
