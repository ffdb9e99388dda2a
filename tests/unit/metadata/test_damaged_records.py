"""Rows of `blobs` and `owners` that fail their checksum: who is told, who is not held up, and what a put repairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.core.chunking import ChunkerSpec
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import IntegrityError
from graviton.metadata.rows import BLOBS, OWNERS, domain_prefix, u64
from graviton.ports.blobs import BlobStat
from tests.unit.services.stores import noise, opened, spoil_row, verified

FINE = ChunkerSpec.parse("fixed-v1:512")


async def put_some(store: Store, count: int = 8) -> list[BlobKey]:
    return [(await store.put(noise(3_000, seed))).key for seed in range(count)]


def spoil_blob(root: Path, key: BlobKey) -> None:
    spoil_row(root, BLOBS, domain_prefix("") + key.to_bytes())


async def spoil_owner(store: Store, root: Path, key: BlobKey) -> int:
    owner = (await (await store.required()).manifests.get(key)).owner
    spoil_row(root, OWNERS, u64(owner))
    return owner


async def listed(store: Store, limit: int | None = None) -> tuple[list[BlobKey], str]:
    found: list[BlobStat] = []
    try:
        async for stat in store.list(limit=limit):
            found.append(stat)  # noqa: PERF401 - what came before the error counts
    except IntegrityError as error:
        return [stat.key for stat in found], error.message
    return [stat.key for stat in found], ""


async def test_everything_else_is_listed_and_then_it_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        keys = sorted(await put_some(store))
        for number in (0, 3, 4):
            spoil_blob(tmp_path, keys[number])
        await spoil_owner(store, tmp_path, keys[6])
        found, told = await listed(store)
        assert found == [keys[number] for number in (1, 2, 5, 7)]
        assert keys[0].text in told
        assert "3 more" in told
        assert await listed(store, limit=1) == (
            [keys[1]],
            f"the metadata of blob {keys[0]} cannot be read; all others are listed",
        )
        assert await listed(store, limit=0) == ([], "")
        assert [stat.key async for stat in store.list(keys[7].text)] == [keys[7]]


async def test_who_asks_for_many_is_told_of_the_first_that_is_damaged(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        keys = await put_some(store)
        manifests = (await store.required()).manifests
        await spoil_owner(store, tmp_path, keys[3])
        with pytest.raises(IntegrityError, match=keys[3].text):
            await manifests.find(keys)
        spoil_blob(tmp_path, keys[6])
        with pytest.raises(IntegrityError, match=keys[6].text):
            await manifests.find(keys[4:])
        assert [record.key for record in await manifests.find(keys[4:6]) if record is not None] == keys[4:6]


async def test_deleted_blob_of_a_damaged_owner_is_not_missed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        keys = sorted(await put_some(store, 3))
        owner = (await (await store.required()).manifests.get(keys[1])).owner
        await store.delete(keys[1])
        spoil_row(tmp_path, OWNERS, u64(owner))
        assert await listed(store) == ([keys[0], keys[2]], "")
        assert await store.stat(keys[1]) is None
        again = next(data for seed in range(3) if key_of(data := noise(3_000, seed)) == keys[1])
        assert (await store.put(again)).created


def key_of(data: bytes) -> BlobKey:
    from graviton.core.hashing import HashAlgo

    return BlobKey(HashAlgo.BLAKE3.digest(data), len(data))


@pytest.mark.parametrize("source", [bytes, bytearray], ids=["alone", "streamed"])
@pytest.mark.parametrize("chunker", [None, FINE], ids=["same", "other"])
async def test_put_repairs_a_blob_whose_owner_is_damaged(
    tmp_path: Path, source: Callable[[bytes], bytes | bytearray], chunker: ChunkerSpec | None
) -> None:
    data = noise(3_000, 2)
    async with opened(tmp_path) as store:
        await put_some(store)
        for holder in ("one", "two"):
            key = (await store.put(data, BlobWritePlan(holder=holder))).key
        totals = await store.totals()
        owner = await spoil_owner(store, tmp_path, key)
        with pytest.raises(IntegrityError) as caught:
            await store.get(key)
        assert key.text in caught.value.message
        assert "Put the same file again" in caught.value.hint
        again = await store.put(source(data), BlobWritePlan(chunker=chunker, holder="three"))
        assert not again.created
        async with await store.get(key) as reader:
            assert await reader.read() == data
        now = await store.totals()
        assert (now.blobs, now.logical_bytes) == (totals.blobs, totals.logical_bytes)
        assert (await verified(store)).damages == []
        cas = await store.required()
        held = [user async for record in cas.index.list() async for user in cas.index.references(record.key)]
        assert owner not in held, "nothing is kept for the sake of what was replaced"
        assert [await store.delete(key, holder) for holder in ("", "one", "two", "three")] == [True] * 4
        assert await store.stat(key) is None


async def test_put_over_a_damaged_record_is_refused_and_names_the_blob(tmp_path: Path) -> None:
    """Nothing tells any more which owner was its, and who else holds it."""
    async with opened(tmp_path) as store:
        [key, *_] = await put_some(store)
        spoil_blob(tmp_path, key)
        for source in (noise(3_000, 0), bytearray(noise(3_000, 0))):
            with pytest.raises(IntegrityError) as caught:
                await store.put(source)
            assert key.text in caught.value.message
            assert "graviton meta restore" in caught.value.hint
        assert (await store.put(noise(2_000, 77))).created
        results = [one async for one in store.put_many([noise(100, seed) for seed in range(90, 95)])]
        assert len(results) == 5
