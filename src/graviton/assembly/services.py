"""`Services`: what a server works with, made from settings and given back in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import Clock, SystemClock
from graviton.metadata.schema_store import KvSchemaStore
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.schemas import SchemaStore
from graviton.stores.cas import CasBlobStore

__all__ = ["Services", "open_services"]


class Services(NamedTuple):
    """What routes get."""

    store: Store
    cas: CasBlobStore
    """The store behind it, open: for what a `Store` does not show."""
    schemas: SchemaStore
    metrics: MetricsRegistry
    clock: Clock


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """The services over the store that `settings` name, which is made unless it is there: what does not fit is told
    now, and not by the first request. Raises ConfigError, PermissionDenied, Unavailable."""
    from graviton.backends.memory.metrics import InMemoryMetrics

    metrics = InMemoryMetrics()
    store = Store(settings, metrics=metrics)
    try:
        if await store.existing() is None:
            await store.init()
        cas = await store.required()
        clock = clock or SystemClock()
        yield Services(store, cas, KvSchemaStore(await store.metadata(), clock), metrics, clock)
    finally:
        await finish_anyway(store.aclose())
