"""`graviton stats`: what is stored and what deduplication saves, at once, from sums that are kept with every change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command

if TYPE_CHECKING:
    from graviton.ports.any_store import QuotaUse
    from graviton.services.doctor import Check

__all__ = ["stats"]

MANY_BLOCKS = 5_000_000
"""Names in one folder from which on a warning is due: ext4 without `large_dir` ends near 9 million."""


@command(works_on=WorksOn.ANY_STORE)
async def stats(call: Call) -> None:
    """Totals of the store, what deduplication saves, and how full quota and cache are, if there are any."""
    from graviton.cli.units import human_bytes

    async with call.any_store() as store:
        await store.required()
        totals, quota = await store.totals(), await store.quota_use()
    ratio = totals.logical_bytes / totals.stored_bytes if totals.stored_bytes else None
    rows = [
        ("blobs", f"{totals.blobs:,}"),
        ("logical bytes", f"{totals.logical_bytes:,}  ({human_bytes(totals.logical_bytes)})"),
        ("unique blocks", f"{totals.blocks:,}"),
        ("stored bytes", f"{totals.stored_bytes:,}  ({human_bytes(totals.stored_bytes)})"),
        ("dedup ratio", "-" if ratio is None else f"{ratio:.2f}"),
    ]
    if quota is not None:
        rows += _quota_rows(quota)
    cache = _cache(call)
    if cache is not None:
        rows.append(("cache", cache.text))
    call.out.result(
        "\n".join(f"{name:<15}{value}" for name, value in rows),
        blobs=totals.blobs,
        logical_bytes=totals.logical_bytes,
        unique_blocks=totals.blocks,
        stored_bytes=totals.stored_bytes,
        dedup_ratio=ratio,
        **({} if quota is None else {"quota": quota._asdict()}),
        **({} if cache is None else {"cache": dict(cache.values) or None}),
    )
    settings = call.any_settings()
    if totals.blocks >= MANY_BLOCKS and settings.server is None and settings.blob_backend == "fs":
        call.out.warn(
            f"{totals.blocks:,} blocks lie in one folder; ext4 without large_dir ends near 9 million names."
            " Enable it (tune2fs -O large_dir) or move the store to XFS or Btrfs"
        )


def _quota_rows(quota: QuotaUse) -> list[tuple[str, str]]:
    """What is used of what is limited."""
    rows = []
    for unit, used, reserved, limit, own in (
        ("bytes", quota.used_bytes, quota.reserved_bytes, quota.limit_bytes, quota.holder_limit_bytes),
        ("blobs", quota.used_blobs, quota.reserved_blobs, quota.limit_blobs, quota.holder_limit_blobs),
    ):
        of = "" if limit is None else f" of {limit:,}"
        each = "" if own is None else f"; each holder {own:,}"
        if of or each:
            rows.append((f"quota {unit}", f"{used:,}{of} used, {reserved:,} reserved{each}"))
    return rows


def _cache(call: Call) -> Check | None:
    """How full the cache is. How well it works is known to the processes that read through it: their metrics tell."""
    settings = call.any_settings().cache
    if settings is None:
        return None
    from graviton.assembly.caches import check_cache

    return check_cache(settings)
