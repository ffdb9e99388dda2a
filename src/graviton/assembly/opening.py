"""Settings to what users hold: the store itself, or the client of a server that has it."""

from __future__ import annotations

from graviton.assembly import wiring
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.policies import StorePolicy
from graviton.ports.any_store import AnyStore
from graviton.ports.events import EventSink
from graviton.ports.metrics import MetricsRegistry

__all__ = ["store_for"]


def store_for(
    settings: Settings,
    *,
    policy: StorePolicy | None = None,
    metrics: MetricsRegistry | None = None,
    events: EventSink | None = None,
) -> AnyStore:
    """The store that the settings name. Touches nothing, and sends nothing, until it is used. Raises ConfigError."""
    if settings.server is None:
        return Store(settings, policy=policy, metrics=metrics, events=events)
    from graviton.backends.http import HttpBlobStore, HttpDefaults

    return HttpBlobStore(
        settings.server,
        defaults=HttpDefaults(settings.hash, settings.chunker, policy),
        budget=wiring.process_budget(settings.memory_bytes),
        metrics=metrics,
    )
