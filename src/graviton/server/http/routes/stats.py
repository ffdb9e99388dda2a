"""`/api/stats`: what is stored, and what deduplication saves."""

from __future__ import annotations

from litestar import get

from graviton._version import __version__
from graviton.server.http.context import Context
from graviton.server.http.models import Backends, QuotaInfo, Stats

__all__ = ["ROUTES"]


@get("/api/stats")
async def stats(context: Context, domain: str = "") -> Stats:
    """Totals of the store, or of another domain of it, at once."""
    services = context.services
    totals, quota = await services.store.totals(domain), await services.store.quota_use()
    kernel, settings = services.store.kernel, services.settings
    return Stats(
        blobs=totals.blobs,
        logical_bytes=totals.logical_bytes,
        unique_blocks=totals.blocks,
        stored_bytes=totals.stored_bytes,
        dedup_ratio=totals.logical_bytes / totals.stored_bytes if totals.stored_bytes else None,
        kernel=kernel.name,
        simd=kernel.simd,
        backends=Backends(settings.blob_backend, settings.metadata, settings.cache is not None),
        version=__version__,
        hash=services.cas.defaults.hash.value,
        chunker=services.cas.defaults.chunker.text,
        quota=None if quota is None else QuotaInfo(*quota),
    )


ROUTES = [stats]
