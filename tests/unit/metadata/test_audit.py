"""The audit finds every kind of damage that rows can have, and nothing in a healthy store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.metadata.audit import Finding, Law, audit
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.rows import BLOBS, BLOCKS, HOLDERS, OWNERS, PAGES, REFS, TOTALS, BlockRow, encode_totals, u64
from graviton.ports.block_index import BlockState
from graviton.ports.kv import Durability
from graviton.ports.manifests import BlobRecord, StoreTotals
from tests.unit.metadata.filled import block, fill, put

KEY = b"\x00" + block(7).to_bytes()


async def findings(kv: InMemoryKeyValueStore) -> list[Finding]:
    return [finding async for finding in audit(kv)]


async def test_healthy_store_has_no_findings() -> None:
    kv = InMemoryKeyValueStore()
    assert await findings(kv) == []
    await fill(kv)
    assert await findings(kv) == []


async def test_pages_beyond_the_first_are_checked() -> None:
    kv = InMemoryKeyValueStore()
    record = await put(kv, *[n % 50 for n in range(4096 * 2 + 10)])
    assert await findings(kv) == []
    await kv.delete(REFS, b"\x00" + block(49).to_bytes() + u64(record.owner))
    assert [finding.law for finding in await findings(kv)] == [Law.CLAIM] * 3  # once per page


async def wrong_totals(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.put(TOTALS, b"\x00extra", encode_totals(StoreTotals(blobs=1)))


async def totals_of_nothing(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.put(TOTALS, b"zzz\x00x", encode_totals(StoreTotals(blobs=1)))


async def no_owner(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.delete(OWNERS, u64(record.owner))


async def no_holder(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.delete(HOLDERS, u64(record.owner))


async def no_page(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.delete(PAGES, u64(record.owner) + u64(record.key.size))


async def bad_page(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.put(PAGES, u64(record.owner) + u64(record.key.size), b"nonsense")


async def misplaced_page(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    page = await kv.get(PAGES, u64(record.owner) + u64(record.key.size))
    assert page is not None
    await no_page(kv, record)
    await kv.put(PAGES, u64(record.owner) + u64(record.key.size + 1), page)


async def one_page_more(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    page = await kv.get(PAGES, u64(record.owner) + u64(record.key.size))
    assert page is not None
    await kv.put(PAGES, u64(record.owner) + u64(record.key.size + 1), page)


async def no_record(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.delete(BLOCKS, KEY)


async def condemned(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.put(BLOCKS, KEY, BlockRow(BlockState.CONDEMNED, 2).encode())


async def no_claim(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.delete(REFS, KEY + u64(record.owner))


async def claim_of_nobody(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.put(REFS, KEY + u64(5), b"\x01\x01")


async def bad_blob_row(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.put(BLOBS, b"\x00" + record.key.to_bytes(), b"\x01")


async def bad_block_row(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.put(BLOCKS, KEY, b"\x01\x09")


async def bad_ref_row(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.put(REFS, KEY + u64(record.owner), b"\x01\x09")


async def bad_owner_row(kv: InMemoryKeyValueStore, record: BlobRecord) -> None:
    await kv.put(OWNERS, u64(record.owner), b"")


async def bad_totals_row(kv: InMemoryKeyValueStore, _: BlobRecord) -> None:
    await kv.put(TOTALS, b"\x00extra", b"")


@pytest.mark.parametrize(
    ("damage", "laws"),
    [
        (wrong_totals, {Law.TOTALS}),
        (totals_of_nothing, {Law.TOTALS}),
        (no_owner, {Law.OWNER, Law.TOTALS}),
        (no_holder, {Law.HOLDER}),
        (no_page, {Law.PAGES}),
        (bad_page, {Law.PAGES}),
        (misplaced_page, {Law.PAGES}),
        (one_page_more, {Law.PAGES}),
        (no_record, {Law.RECORD, Law.TOTALS}),
        (condemned, {Law.RECORD, Law.TOTALS}),
        (no_claim, {Law.CLAIM}),
        (claim_of_nobody, {Law.OWNER}),
        (bad_blob_row, {Law.ROW, Law.TOTALS}),
        (bad_block_row, {Law.ROW, Law.TOTALS}),
        (bad_ref_row, {Law.ROW}),
        (bad_owner_row, {Law.ROW, Law.TOTALS}),
        (bad_totals_row, {Law.ROW}),
    ],
)
async def test_damage_is_found_and_named(
    damage: Callable[[InMemoryKeyValueStore, BlobRecord], Awaitable[None]], laws: set[Law]
) -> None:
    kv = InMemoryKeyValueStore()
    await fill(kv)
    record = await put(kv, 7, 8)
    await damage(kv, record)
    found = await findings(kv)
    assert {finding.law for finding in found} == laws
    assert all(finding.subject and finding.message for finding in found)


async def test_findings_of_other_domains_are_left_out() -> None:
    kv = InMemoryKeyValueStore()
    await no_holder(kv, await put(kv, 7, domain="sick"))
    await put(kv, 8, domain="well")
    assert [finding async for finding in audit(kv, "well")] == []
    assert [finding.law async for finding in audit(kv, "sick")] == [Law.HOLDER]


async def test_what_happens_meanwhile_is_no_finding() -> None:
    """After every read of the audit somebody puts, deletes, or collects."""

    class Busy(InMemoryKeyValueStore):
        reads = 0
        busy = False

        async def read(self, fn):  # type: ignore[no-untyped-def]
            result = await super().read(fn)
            self.reads += 1
            if self.busy:
                self.busy = False
                record = await put(self, 200 + self.reads, 1)
                if self.reads % 2:
                    await KvBlobManifestRepo(self).delete(record.key)
                self.busy = True
            return result

        async def transact(self, fn, durability=Durability.FULL):  # type: ignore[no-untyped-def]
            return await super().transact(fn, durability)

    kv = Busy()
    for number in range(0, 40, 2):
        await put(kv, number, number + 1)
    found: list[Finding] = []
    kv.busy = True
    async for finding in audit(kv):
        found.append(finding)
        break
    kv.busy = False
    assert found == []
    assert kv.reads > 20
