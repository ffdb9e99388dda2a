"""The quota over every kind of metadata, through the store that people open."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from graviton.assembly.limit_settings import LimitSettings
from graviton.assembly.store import Store
from graviton.constraints.quota import QuotaLimits, Usage
from graviton.core.policies import BlobWritePlan
from graviton.errors import StorageFull
from tests.integration.metadata_kinds import KINDS, spot
from tests.support import some_bytes
from tests.unit.constraints.quotas import check_rows

pytestmark = pytest.mark.postgres

LIMITS = LimitSettings(QuotaLimits(bytes=300_000, blobs=60, holder_bytes=200_000))


@pytest.mark.parametrize("kind", KINDS)
async def test_tasks_that_race_are_never_over_and_the_books_are_exact(kind: str, tmp_path: Path) -> None:
    refused = 0
    async with spot(kind, tmp_path) as place:
        settings = place.settings(tmp_path / "store")._replace(limits=LIMITS)
        async with Store(settings) as store:

            async def work(number: int) -> None:
                nonlocal refused
                plan = BlobWritePlan(holder=str(number % 2))
                mine = []
                for step in range(10):
                    data = some_bytes(5_000 + 997 * number, 100 * number + step % 7)
                    try:
                        if step % 3:
                            mine.append((await store.put(data, plan)).key)
                        else:
                            mine += [one.key async for one in store.put_many([data, data[:100], data[:50]], plan)]
                    except StorageFull:
                        refused += 1
                        if mine:
                            await store.delete(mine.pop(0), plan.holder)
                    totals = await store.totals()
                    assert totals.logical_bytes <= 300_000
                    assert totals.blobs <= 60

            await asyncio.gather(*(work(number) for number in range(8)))
            assert refused > 0
            quota = await store.quota()
            assert quota is not None
            totals = await store.totals()
            assert await quota.usage() == Usage(totals.logical_bytes, totals.blobs, 0, 0)
            await (await store.metadata()).read(check_rows)
            keys = [stat.key async for stat in store.list()]
            for holder in "01":
                used = await quota.usage(holder)
                assert 0 < used.bytes <= 200_000
                held = [key for key in keys if await store.delete(key, holder)]
                assert used == Usage(sum(key.size for key in held), len(held), 0, 0)
            assert await quota.usage() == Usage(0, 0, 0, 0)
            assert await store.undelete(keys[0], "0") is True
            assert await quota.usage("0") == Usage(keys[0].size, 1, 0, 0)
