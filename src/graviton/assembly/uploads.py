"""Resumable uploads of a store: where their rows, parts and bodies that wait for their checksum lie."""

from __future__ import annotations

from graviton.assembly.metadata_side import range_tracker
from graviton.assembly.store import Store
from graviton.constraints.spill import Spill
from graviton.errors import Unsupported
from graviton.services.uploads import Uploads
from graviton.services.uploads.counting import DEFAULT_MAX_OPEN
from graviton.services.uploads.held import HeldBytes
from graviton.services.uploads.kit import Kit, Sizes
from graviton.services.uploads.parts import PartStore
from graviton.services.uploads.quota import Reservations
from graviton.services.uploads.sweeping import STALE_SECONDS
from graviton.services.uploads.values import DEFAULT_LIFETIME_SECONDS

__all__ = ["open_uploads"]


async def open_uploads(
    store: Store,
    *,
    spill: Spill,
    lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
    stale_seconds: float = STALE_SECONDS,
    sizes: Sizes = Sizes(),
    max_open: int = DEFAULT_MAX_OPEN,
) -> Uploads:
    """The uploads of `store`, which is made if it is not there. Rows lie in its metadata, parts beside its blocks: any
    server over the same two goes on with them. Bodies wait in `spill` until their checksum is known. Whoever opens them
    closes them, before the store. Raises Unsupported where parts cannot lie, ConfigError, Unavailable."""
    side = store.sides
    if side.part_place is None:
        raise Unsupported(
            "uploads need a folder or an S3 bucket for what waits, and this store has neither",
            operation="upload",
            hint="Put whole blobs, or keep the blocks in a folder or in S3.",
        )
    cas = await store.for_writing()
    kv = await store.metadata()
    pool, budget = cas.parts.pool, cas.parts.budget
    limits = cas.limits
    parts = PartStore(side.part_place(), budget, pool)
    held = HeldBytes(kv, parts, cas.access, budget)
    tracker = range_tracker(kv)
    kit = Kit(
        kv,
        cas.parts,
        cas.access,
        tracker,
        parts,
        held,
        cas.reporter,
        cas.defaults,
        spill.buffer,
        Reservations(None if limits is None else limits.quota),
        None if limits is None else limits.pace,
        sizes,
    )
    return Uploads(kit, lifetime_seconds=lifetime_seconds, stale_seconds=stale_seconds, max_open=max_open)
