"""Damage to pages, records, totals and blobs as a whole is named with its byte range; the rest is checked all the same.

Blocks lie in memory, so that blobs of several manifest pages are quick.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_PAGE_ENTRIES
from graviton.core.manifests import ManifestPage, paginate
from graviton.core.ranges import Span
from graviton.metadata.rows import BLOBS, BLOCKS, OWNERS, PAGES, TOTALS, domain_prefix, encode_totals, u64
from graviton.ports.blocks import CanonicalBlock
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import BlobCommit, StoreTotals
from graviton.services.findings import Part
from tests.unit.services.stores import entries_of, noise, opened, verified

BLOCK_BYTES = 64
PAGE_BYTES = MAX_PAGE_ENTRIES * BLOCK_BYTES
SPEC = f"fixed-v1:{BLOCK_BYTES}"
DOMAIN = domain_prefix("")
THREE_PAGES = noise(2 * PAGE_BYTES + 10 * BLOCK_BYTES + 5)


async def page_rows(store: Store, blob: BlobKey) -> tuple[KeyValueStore, list[tuple[bytes, bytes]]]:
    kv = await store.metadata()
    record = await (await store.required()).manifests.get(blob)
    return kv, [row async for row in kv.scan(PAGES, u64(record.owner))]


@pytest.mark.parametrize(
    ("number", "span"),
    [
        (0, Span(0, PAGE_BYTES)),
        (1, Span(PAGE_BYTES, 2 * PAGE_BYTES)),
        (2, Span(2 * PAGE_BYTES, len(THREE_PAGES))),
    ],
)
@pytest.mark.parametrize("kind", ["flipped", "truncated", "missing", "empty"])
async def test_damaged_page_is_named_and_the_others_are_checked(
    tmp_path: Path, kind: str, number: int, span: Span
) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(THREE_PAGES)).key
        kv, rows = await page_rows(store, blob)
        assert len(rows) == 3
        key, value = rows[number]
        changed = {"flipped": value[:40] + bytes((value[40] ^ 1,)) + value[41:], "truncated": value[:-36], "empty": b""}
        if kind == "missing":
            await kv.delete(PAGES, key)
        else:
            await kv.put(PAGES, key, changed[kind])
        for quick in (False, True):
            outcome = await verified(store, blob, quick=quick)
            [damage] = outcome.damages
            assert (damage.part, damage.blob, damage.block, damage.span) == (Part.PAGE, blob, None, span)
            assert outcome.summary.read_bytes == (0 if quick else len(THREE_PAGES) - span.length)
        assert [one.part for one in (await verified(store)).damages if one.part is not Part.STORE] == [Part.PAGE]


async def test_swapped_pages_are_both_named(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(THREE_PAGES)).key
        kv, rows = await page_rows(store, blob)
        await kv.put(PAGES, rows[0][0], rows[1][1])
        await kv.put(PAGES, rows[1][0], rows[0][1])
        outcome = await verified(store, blob)
        assert [(one.part, one.span) for one in outcome.damages] == [
            (Part.PAGE, Span(0, PAGE_BYTES)),
            (Part.PAGE, Span(PAGE_BYTES, 2 * PAGE_BYTES)),
        ]


async def test_page_of_another_manifest_with_a_good_seal_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(noise(4 * BLOCK_BYTES))).key
        kv, [(key, value)] = await page_rows(store, blob)
        page = ManifestPage.open(value, blob)
        forged = ManifestPage(0, 0, [page.keys[1], page.keys[0], *page.keys[2:]])
        await kv.put(PAGES, key, forged.seal(blob))
        outcome = await verified(store, blob)
        [damage] = outcome.damages
        assert (damage.part, damage.span) == (Part.PAGE, Span(0, 4 * BLOCK_BYTES))
        assert "belongs to another manifest" in damage.text


async def test_blob_that_is_not_what_its_sound_parts_make_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        await store.put(b"so that there is a store")
        cas = await store.required()
        blocks = [noise(BLOCK_BYTES, seed) for seed in range(3)]
        keys = [BlockKey(HashAlgo.BLAKE3.digest(data), len(data)) for data in blocks]
        wrong = BlobKey(HashAlgo.BLAKE3.digest(b"something else"), 3 * BLOCK_BYTES)
        [(session, _)] = await cas.index.open([keys])
        await cas.blocks.put_blocks([CanonicalBlock(key, data) for key, data in zip(keys, blocks, strict=True)])
        pages = paginate(keys)
        await cas.manifests.commit([BlobCommit(session, wrong, pages, keys, BinaryAttributes.EMPTY, SPEC)])
        outcome = await verified(store)
        [damage] = outcome.damages
        assert (damage.part, damage.blob, damage.span) == (Part.BLOB, wrong, Span(0, 3 * BLOCK_BYTES))
        assert (await verified(store, quick=True)).damages == []


async def test_missing_and_damaged_block_records_are_named(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(noise(6 * BLOCK_BYTES))).key
        keys = [entry.key for entry in await entries_of(store, blob)]
        kv = await store.metadata()
        await kv.delete(BLOCKS, DOMAIN + keys[1].to_bytes())
        await kv.put(BLOCKS, DOMAIN + keys[4].to_bytes(), b"nonsense")
        outcome = await verified(store, blob)
        assert [(one.part, one.block, one.span) for one in outcome.damages] == [
            (Part.BLOCK_RECORD, keys[1], Span(BLOCK_BYTES, 2 * BLOCK_BYTES)),
            (Part.BLOCK_RECORD, keys[4], Span(4 * BLOCK_BYTES, 5 * BLOCK_BYTES)),
        ]
        assert outcome.summary.read_bytes == blob.size


async def test_block_that_nobody_confirmed_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(noise(2 * BLOCK_BYTES))).key
        [first, _] = await entries_of(store, blob)
        kv = await store.metadata()
        place = DOMAIN + first.key.to_bytes()
        row = await kv.get(BLOCKS, place)
        assert row is not None
        await kv.put(BLOCKS, place, row[:1] + b"\x01" + row[2:])
        [damage] = (await verified(store, blob)).damages
        assert (damage.part, damage.block) == (Part.BLOCK_RECORD, first.key)
        assert "is pending" in damage.text


@pytest.mark.parametrize("namespace", [BLOBS, OWNERS])
async def test_damaged_blob_record_is_named_and_the_other_blobs_are_checked(tmp_path: Path, namespace: str) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        bad = (await store.put(noise(200, seed=1))).key
        good = (await store.put(noise(300, seed=2))).key
        kv = await store.metadata()
        owner = (await (await store.required()).manifests.get(bad)).owner
        place = DOMAIN + bad.to_bytes() if namespace == BLOBS else u64(owner)
        row = await kv.get(namespace, place)
        assert row is not None
        await kv.put(namespace, place, row[:-1] if namespace == BLOBS else row[:5])
        outcome = await verified(store)
        [damage] = [one for one in outcome.damages if one.blob is not None]
        assert (damage.part, damage.blob, damage.span) == (Part.BLOB_RECORD, bad, Span(0, 200))
        assert outcome.summary.logical_bytes == 200 + good.size
        assert [one.blob for one in (await verified(store, bad)).damages] == [bad]


async def test_wrong_totals_are_found_by_a_full_run(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(noise(200))).key
        kv = await store.metadata()
        await kv.put(TOTALS, DOMAIN + b"more", encode_totals(StoreTotals(blobs=1)))
        for quick in (False, True):
            [damage] = (await verified(store, quick=quick)).damages
            assert (damage.part, damage.blob) == (Part.STORE, None)
            assert "totals" in damage.text
        assert (await verified(store, blob)).damages == []


async def test_lost_claim_is_found_by_a_full_run(tmp_path: Path) -> None:
    async with opened(tmp_path, SPEC, blob_backend="memory", metadata="memory") as store:
        blob = (await store.put(noise(200))).key
        kv = await store.metadata()
        [(key, _), *_] = [row async for row in kv.scan("refs")]
        await kv.delete("refs", key)
        [damage] = (await verified(store)).damages
        assert damage.part is Part.STORE
        assert blob.text in damage.text
        assert "claim" in damage.text


@pytest.mark.parametrize("table", ["ns_pages", "ns_blobs", "ns_blocks"])
async def test_rows_that_sqlite_cannot_vouch_for_are_stepped_over(tmp_path: Path, table: str) -> None:
    """The backend raises at such a row, for every read that meets it, and does not say which row it is."""
    async with opened(tmp_path, SPEC, blob_backend="memory") as store:
        blob = (await store.put(THREE_PAGES)).key
        other = (await store.put(noise(BLOCK_BYTES, seed=5))).key
        second = (await entries_of(store, blob))[1].key
        _, rows = await page_rows(store, blob)
        place = {"ns_pages": rows[1][0], "ns_blobs": DOMAIN + blob.to_bytes(), "ns_blocks": DOMAIN + second.to_bytes()}
        with sqlite3.connect(tmp_path / "meta.sqlite") as connection:
            changed = connection.execute(
                f"UPDATE {table} SET value = substr(value, 1, length(value) - 1) || x'77' WHERE key = ?",
                (place[table],),
            )
            assert changed.rowcount == 1
        connection.close()
        found = [one for one in (await verified(store)).damages if one.part is not Part.STORE]
        [damage] = found
        assert damage.blob == blob
        if table == "ns_pages":
            assert (damage.part, damage.span) == (Part.PAGE, Span(PAGE_BYTES, 2 * PAGE_BYTES))
        elif table == "ns_blobs":
            assert (damage.part, damage.span) == (Part.BLOB_RECORD, Span(0, blob.size))
        else:
            assert (damage.part, damage.block) == (Part.BLOCK_RECORD, second)
            assert damage.span == Span(BLOCK_BYTES, 2 * BLOCK_BYTES)
        assert (await verified(store, other)).damages == []
