"""Totals counted anew are right, whatever others do meanwhile; a restore counts instead of carrying a sum along."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.errors import IntegrityError
from graviton.metadata import totals
from graviton.metadata.audit import audit
from graviton.metadata.backup import backup_metadata
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.recount import Recount, recompute_totals
from graviton.metadata.restore import restore_metadata
from graviton.metadata.rows import TOTALS, encode_totals
from graviton.ports.manifests import StoreTotals
from tests.unit.metadata.filled import fill, put
from tests.unit.services.stores import noise, opened, spoil_row, verified


async def recounted(kv: InMemoryKeyValueStore) -> dict[str, Recount]:
    return {one.domain: one async for one in recompute_totals(kv)}


async def test_right_totals_stay_and_nothing_is_written() -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    before = [row async for row in kv.scan(TOTALS)]
    found = await recounted(kv)
    assert sorted(found) == ["", "other"]
    assert not any(one.is_changed for one in found.values())
    assert [row async for row in kv.scan(TOTALS)] == before


async def wrong(kv: InMemoryKeyValueStore) -> None:
    await kv.put(TOTALS, b"\x00extra", encode_totals(StoreTotals(3, -5, 7, 11)))


async def lost(kv: InMemoryKeyValueStore) -> None:
    for key in [key async for key, _ in kv.scan(TOTALS)]:
        await kv.delete(TOTALS, key)


async def malformed(kv: InMemoryKeyValueStore) -> None:
    key, _ = await anext(kv.scan(TOTALS))
    await kv.put(TOTALS, key, b"nonsense")


@pytest.mark.parametrize("damage", [wrong, lost, malformed])
async def test_wrong_totals_are_put_right(damage: Callable[[InMemoryKeyValueStore], Awaitable[None]]) -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    repo = KvBlobManifestRepo(kv)
    right = [await repo.totals(domain) for domain in ("", "other")]
    await damage(kv)
    found = await recounted(kv)
    assert found[""].is_changed
    assert [found[domain].counted for domain in ("", "other")] == right
    assert [await repo.totals(domain) for domain in ("", "other")] == right
    assert [finding async for finding in audit(kv)] == []
    assert not any(one.is_changed for one in (await recounted(kv)).values())


async def test_puts_deletes_folds_and_other_recounts_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each snapshot and before the correction: a put, a delete, a fold, and every other time a whole recount."""
    monkeypatch.setattr(totals, "_FOLD_ONE_IN", 2)

    class Busy(InMemoryKeyValueStore):
        reads = 0
        busy = True

        async def read(self, fn):  # type: ignore[no-untyped-def]
            result = await super().read(fn)
            if self.busy:
                self.busy, self.reads = False, self.reads + 1
                record = await put(self, 200 + self.reads, 1)
                if self.reads % 2:
                    await KvBlobManifestRepo(self).delete(record.key)
                if self.reads % 3 == 0:
                    await recounted(self)
                    await wrong(self)
                self.busy = self.reads < 30
            return result

    kv = Busy()
    kv.busy = False
    await fill(kv)
    await wrong(kv)
    kv.busy = True
    while kv.busy:
        await recounted(kv)
    await recounted(kv)
    assert [finding async for finding in audit(kv)] == []


async def test_recounts_at_once_correct_once() -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    await wrong(kv)
    await asyncio.gather(*(recounted(kv) for _ in range(5)))
    assert [finding async for finding in audit(kv)] == []


async def test_restore_counts_anew(tmp_path: Path) -> None:
    source, target = InMemoryKeyValueStore(), InMemoryKeyValueStore()
    await fill(source)
    await wrong(source)
    await backup_metadata(source, tmp_path / "backup")
    await restore_metadata(target, tmp_path / "backup", blocks_exist=None)
    assert [finding async for finding in audit(target)] == []


@pytest.mark.parametrize("all_rows", [True, False])
async def test_rows_that_fail_their_checksum_are_replaced(tmp_path: Path, all_rows: bool) -> None:
    async with opened(tmp_path) as store:
        for seed in range(5):
            await store.put(noise(9_000, seed))
        right = await store.totals()
        kv = await store.metadata()
        for key in [key async for key, _ in kv.scan(TOTALS)][: None if all_rows else 1]:
            spoil_row(tmp_path, TOTALS, key)
        with pytest.raises(IntegrityError) as caught:
            await store.totals()
        assert "graviton meta repair-totals" in caught.value.hint
        [one] = [one async for one in recompute_totals(kv)]
        assert (one.is_changed, one.counted) == (True, right)
        assert await store.totals() == right
        assert (await verified(store)).damages == []
