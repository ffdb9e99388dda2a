"""`Services`: what a server works with, made from settings and given back in order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from graviton.assembly import wiring
from graviton.assembly.readiness import Readiness
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import Clock, SystemClock
from graviton.metadata.schema_store import KvSchemaStore
from graviton.ports.events import Event
from graviton.ports.kv import KeyValueStore
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.schemas import SchemaStore
from graviton.stores.cas import CasBlobStore

__all__ = ["Outbox", "Services", "open_services"]


class Outbox(Protocol):
    """The events of a store, of which no follower misses any."""

    def follow(self, after: str | None = None) -> AsyncIterator[tuple[str, Event]]:
        """Events and the position after each, for ever; from the first that is kept without `after`. Raises
        InvalidInput for what is no position, NotFound if events after it are gone."""

    async def latest(self) -> str:
        """The position after everything that is committed now."""


class Services(NamedTuple):
    """What routes get."""

    settings: Settings
    store: Store
    cas: CasBlobStore
    """The store behind it, open: for what a `Store` does not show."""
    schemas: SchemaStore
    outbox: Outbox | None
    """None where the metadata keep no events."""
    readiness: Readiness
    metrics: MetricsRegistry
    clock: Clock


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """The services over the store that `settings` name, which is made unless it is there: what does not fit is told
    now, and not by the first request. Raises ConfigError, PermissionDenied, Unavailable."""
    from graviton.backends.memory.metrics import InMemoryMetrics

    clock = clock or SystemClock()
    metrics = InMemoryMetrics()
    store = Store(settings, metrics=metrics)
    try:
        if await store.existing() is None:
            await store.init()
        cas, kv = await store.required(), await store.metadata()
        readiness = Readiness(settings, cas, clock)
        try:
            yield Services(
                settings, store, cas, KvSchemaStore(kv, clock), _outbox(settings, kv), readiness, metrics, clock
            )
        finally:
            await finish_anyway(readiness.aclose())
    finally:
        await finish_anyway(store.aclose())


def _outbox(settings: Settings, kv: KeyValueStore) -> Outbox | None:
    return wiring.outbox(kv) if settings.metadata == "postgres" else None
