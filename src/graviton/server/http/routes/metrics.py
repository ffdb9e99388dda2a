"""`/metrics`: for Prometheus."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from litestar import Response, get

from graviton.concurrency.executors import in_own_thread
from graviton.errors import GravitonError
from graviton.server.http.context import Context

__all__ = ["ROUTES"]

QUOTA_SECONDS: Final = 2.0
"""Who asks gives up after some ten."""


@get("/metrics")
async def metrics(context: Context) -> Response[bytes]:
    """All metrics of this server."""
    await _look_at_quota(context)
    kind, text = await in_own_thread(context.services.metrics.exposition)
    return Response(text, media_type=kind, headers={"cache-control": "no-store"})


async def _look_at_quota(context: Context) -> None:
    """What is used of a quota changes by deletes, and by other processes; puts alone show it otherwise. Metadata that
    are away must not hide all other figures."""
    limits = context.services.cas.limits
    if limits is not None and limits.quota is not None:
        with suppress(GravitonError, TimeoutError):
            async with asyncio.timeout(QUOTA_SECONDS):
                await limits.quota.usage()


ROUTES = [metrics]
