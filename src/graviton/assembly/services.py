"""`Services`: what a server works with, made from settings and given back in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from graviton.assembly.limits import spill_of
from graviton.assembly.readiness import Readiness
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.assembly.uploads import open_uploads
from graviton.backends.prometheus import PrometheusMetrics
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import Clock, SystemClock
from graviton.metadata.schema_store import KvSchemaStore
from graviton.ports.outbox import Outbox
from graviton.ports.schemas import SchemaStore
from graviton.ports.tracing import Tracer
from graviton.services.uploads import Uploads
from graviton.services.uploads.counting import DEFAULT_MAX_OPEN
from graviton.services.uploads.values import DEFAULT_LIFETIME_SECONDS
from graviton.stores.cas import CasBlobStore

__all__ = ["Services", "open_services"]


class Services(NamedTuple):
    """What routes get."""

    settings: Settings
    store: Store
    cas: CasBlobStore
    """The store behind it, open: for what a `Store` does not show."""
    uploads: Uploads | None
    """None where what waits has no place: blocks in a cloud other than S3."""
    schemas: SchemaStore
    outbox: Outbox
    readiness: Readiness
    metrics: PrometheusMetrics
    clock: Clock


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    metrics: PrometheusMetrics | None = None,
    tracer: Tracer | None = None,
    clock: Clock | None = None,
    upload_lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
    upload_max_open: int = DEFAULT_MAX_OPEN,
) -> AsyncIterator[Services]:
    """The services over the store that `settings` name, which is made unless it is there: what does not fit is told
    now, and not by the first request. Raises ConfigError, PermissionDenied, Unavailable."""
    clock = clock or SystemClock()
    metrics = metrics or PrometheusMetrics()
    store = Store(settings, metrics=metrics, tracer=tracer)
    try:
        if await store.existing() is None:
            await store.init()
        cas, kv = await store.required(), await store.metadata()
        readiness = Readiness(settings, cas, clock)
        spill = spill_of(settings, cas.budget, metrics)
        uploads = None
        if store.sides.part_place is not None:
            uploads = await open_uploads(
                store, spill=spill, lifetime_seconds=upload_lifetime_seconds, max_open=upload_max_open
            )
        try:
            if uploads is not None:
                uploads.start_sweeping()
            schemas, outbox = KvSchemaStore(kv, clock), await store.outbox()
            yield Services(settings, store, cas, uploads, schemas, outbox, readiness, metrics, clock)
        finally:
            if uploads is not None:
                await finish_anyway(uploads.aclose())
            await finish_anyway(spill.aclose())
            await finish_anyway(readiness.aclose())
    finally:
        await finish_anyway(store.aclose())
