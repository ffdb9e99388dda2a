"""Settings to what limits a store: the quota over its metadata, rates, and where bytes wait."""

from __future__ import annotations

from graviton.assembly.limit_settings import SPILL_MEMORY_BYTES, LimitSettings
from graviton.assembly.settings import Settings
from graviton.constraints.budget import ByteBudget
from graviton.constraints.quota import Quota
from graviton.constraints.spill import Spill, SpillPolicy
from graviton.constraints.throttle import Throttle
from graviton.ports.kv import KeyValueStore
from graviton.ports.metrics import MetricsRegistry
from graviton.stores.limits.limits import StoreLimits

__all__ = ["spill_of", "store_limits"]


def store_limits(settings: LimitSettings, kv: KeyValueStore, metrics: MetricsRegistry | None) -> StoreLimits:
    """What a store asks, over the metadata `kv` that its blobs are in."""
    return StoreLimits(
        quota=Quota(kv, settings.quota, metrics=metrics) if settings.quota.is_any else None,
        uploads=_throttle(settings.upload_rate),
        downloads=_throttle(settings.download_rate),
        max_blob_bytes=settings.max_blob_bytes,
        metrics=metrics,
    )


def spill_of(settings: Settings, budget: ByteBudget, metrics: MetricsRegistry | None = None) -> Spill:
    """Where bytes of this process wait that are not stored yet. Touches nothing; to be closed by the caller."""
    policy = SpillPolicy(SPILL_MEMORY_BYTES, settings.limits.spill_bytes, settings.spill_root)
    return Spill(policy, budget, metrics)


def _throttle(rate: int | None) -> Throttle | None:
    return None if rate is None else Throttle(rate)
