"""`/api/stats`: what is stored, and what deduplication saves."""

from __future__ import annotations

import msgspec
from litestar import get

from graviton._version import __version__
from graviton.server.http.context import Context

__all__ = ["ROUTES", "Stats"]


class Backends(msgspec.Struct):
    """What the store is made of."""

    blocks: str
    metadata: str
    cache: bool


class Stats(msgspec.Struct):
    """Sums that are kept with every change."""

    blobs: int
    logical_bytes: int
    """Sum of the sizes of all blobs."""
    unique_blocks: int
    stored_bytes: int
    """Sum of the sizes of those blocks."""
    dedup_ratio: float | None
    """Logical by stored bytes; null while nothing is stored."""
    kernel: str
    """native or python."""
    simd: str
    """The instruction set that cuts."""
    backends: Backends
    version: str


@get("/api/stats")
async def stats(context: Context, domain: str = "") -> Stats:
    """Totals of the store, or of another domain of it, at once."""
    services = context.services
    totals = await services.store.totals(domain)
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
    )


ROUTES = [stats]
