"""A row that fails its checksum, whichever it is, is told by a full run, and ends nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import IntegrityError
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.services.verify import Verification
from tests.unit.services.stores import entries_of, noise, opened, parts_of, spoil_row, verified

BLOBS = [noise(9_000, seed) for seed in range(3)]
NAMESPACES = [
    *(
        "blobs",
        "blocks",
        "candidates",
        "claims",
        "dropped",
        "events",
        "holders",
        "notes",
        "owners",
        "pages",
        "range_heads",
        "ranges",
        "refs",
    ),
    *("replicas", "replicas_by_bucket", "replicas_by_live", "replicas_by_verified"),
    *("schema_names", "schemas", "store", "totals"),
]


async def filled(store: Store) -> None:
    """Something in every namespace, in two domains."""
    for domain in ("", "other"):
        for data in BLOBS:
            await store.put(data, BlobWritePlan(domain=domain))
    many = (await store.put(noise(80_000, 9))).key
    cas, kv = await store.required(), await store.metadata()
    await store.delete((await store.put(noise(1_000, 8))).key)
    await cas.index.end((await cas.index.open([[BlockKey(HashAlgo.BLAKE3.digest(b"nobody's"), 9)]]))[0].session)
    assert len((await cas.index.condemn("0" * 32)).notes) == 1
    await cas.index.end((await cas.index.open([[one.key for one in await entries_of(store, many)]]))[0].session)
    locator = Locator.parse("cas://bucket/path")
    await KvRangeTracker(kv).merge(locator, Span(0, 10))
    [entry, *_] = await entries_of(store, many)
    await KvReplicaIndex(kv).update(entry.key, {locator})
    assert await kv.namespaces() == sorted(NAMESPACES)


@pytest.mark.parametrize("namespace", NAMESPACES)
async def test_each_row_that_fails_its_checksum_is_told(tmp_path: Path, namespace: str) -> None:
    async with opened(tmp_path) as store:
        await filled(store)
        kv = await store.metadata()
        healthy = (await verified(store)).summary
        assert healthy.is_clean
        keys = [key async for key, _ in kv.scan(namespace)]
        for key in {keys[0], keys[len(keys) // 2], keys[-1]}:
            spoil_row(tmp_path, namespace, key)
        for quick in (False, True):
            outcome = await verified(store, quick=quick)
            assert outcome.damages
            summary = outcome.summary
            assert summary.blobs == healthy.blobs, "every blob was looked at"
            if namespace not in ("blobs", "owners", "pages") and not quick:
                assert summary.read_bytes == healthy.read_bytes
            if namespace not in ("blobs", "blocks", "pages"):
                told = [one.text for one in outcome.damages]
                assert any(f"law of row: {namespace}: " in text for text in told), told


async def test_totals_with_a_damaged_row_keep_nobody_from_putting(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(BLOBS[0])
        spoil_row(tmp_path, "totals")
        for number in range(200):  # one in 64 folds the totals
            await store.put(b"%d" % number)
        with pytest.raises(IntegrityError):
            await store.totals()


async def test_a_store_that_cannot_get_past_the_damage_is_checked_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a damaged page of the file itself: no beginning of a scan leads past it."""
    from graviton.backends.sqlite import _transaction

    async with opened(tmp_path) as store:
        await filled(store)
        parts = await parts_of(store)
        scan = _transaction.ReadView.scan

        def failing(self, namespace, *args, **kwargs):  # type: ignore[no-untyped-def]
            if namespace == "blobs":
                raise IntegrityError("malformed")
            return scan(self, namespace, *args, **kwargs)

        monkeypatch.setattr(_transaction.ReadView, "scan", failing)
        found = []
        async with Verification(parts, found.append) as run:
            await run.everything()
            assert run.summary.read_bytes >= 80_000, "blocks are read as such"
        assert any("does not tell all blobs" in one.text for one in found)
