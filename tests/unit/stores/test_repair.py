"""Putting the same bytes again repairs a blob, however they are cut this time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.core.chunking import ChunkerSpec
from graviton.core.keys import BlockKey
from graviton.core.policies import BlobWritePlan
from graviton.metadata import manifest_checks
from graviton.metadata.rows import BLOCKS, BlockRow, domain_prefix
from graviton.ports.block_index import BlockState
from tests.unit.services.stores import block_file, entries_of, noise, opened, overwrite, verified

DATA = noise(6_000, seed=5)
COARSE, FINE = ChunkerSpec.parse("fixed-v1:2048"), ChunkerSpec.parse("fixed-v1:512")


async def read(store: Store, key: graviton.BlobKey) -> bytes:
    async with await store.get(key) as reader:
        return await reader.read()


async def damage_and_notice(store: Store, key: graviton.BlobKey, number: int = 1) -> BlockKey:
    """Spoil a block of the blob and have a read mark it."""
    block = (await entries_of(store, key))[number].key
    overwrite(block_file(store.settings.fs_root, block), bytes(block.size))
    with pytest.raises(graviton.IntegrityError):
        await read(store, key)
    return block


@pytest.fixture(params=["inside", "outside"])
def checked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small manifests are checked by the transaction that commits, others before it."""
    if request.param == "outside":
        monkeypatch.setattr(manifest_checks, "MAX_BLOCKS_INSIDE", 0)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("source", [bytes, bytearray], ids=["alone", "streamed"])
async def test_a_put_with_another_chunker_repairs(tmp_path: Path, source: Callable[[bytes], bytes | bytearray]) -> None:
    async with opened(tmp_path) as store:
        for holder in ("one", "two"):
            first = await store.put(DATA, BlobWritePlan(chunker=COARSE, holder=holder))
        await damage_and_notice(store, first.key)
        again = await store.put(source(DATA), BlobWritePlan(chunker=FINE, holder="three"))
        assert await read(store, first.key) == DATA
        assert (again.created, again.chunker, again.blocks, again.stats.blocks) == (False, FINE.text, 12, 12)
        assert again.attributes.chunk_count == 12
        outcome = await verified(store)
        assert outcome.damages == []
        assert (await store.totals()).blobs == 1
        held = [await store.delete(first.key, holder) for holder in ("one", "two", "three")]
        assert held == [True, True, True]
        assert await store.stat(first.key) is None


@pytest.mark.usefixtures("checked")
async def test_groups_are_repaired_and_merged_side_by_side(tmp_path: Path) -> None:
    others = [noise(3_000, seed) for seed in range(4)]
    async with opened(tmp_path) as store:
        for data in (*others, DATA):
            first = await store.put(data, BlobWritePlan(chunker=COARSE))
        await damage_and_notice(store, first.key)
        sources = [others[0], DATA, *others[1:], DATA]
        results = [one async for one in store.put_many(sources, BlobWritePlan(chunker=FINE))]
        assert not any(one.created for one in results)
        assert [one.chunker for one in results] == [FINE.text if data is DATA else COARSE.text for data in sources]
        for one, data in zip(results, sources, strict=True):
            assert await read(store, one.key) == data
        assert (await verified(store)).damages == []


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("state", [None, *(state for state in BlockState if state is not BlockState.STORED)])
async def test_whatever_is_not_stored_is_replaced(tmp_path: Path, state: BlockState | None) -> None:
    async with opened(tmp_path) as store:
        first = await store.put(DATA, BlobWritePlan(chunker=COARSE))
        block = (await entries_of(store, first.key))[1].key
        kv = await store.metadata()
        place = domain_prefix("") + block.to_bytes()
        if state is None:
            await kv.delete(BLOCKS, place)
        else:
            await kv.put(BLOCKS, place, BlockRow(state, 7).encode())
        block_file(tmp_path, block).unlink()
        again = await store.put(DATA, BlobWritePlan(chunker=FINE))
        assert again.chunker == FINE.text
        assert await read(store, first.key) == DATA


@pytest.mark.usefixtures("checked")
async def test_a_sound_manifest_stays_and_the_result_says_which(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(DATA, BlobWritePlan(chunker=COARSE))
        again = await store.put(DATA, BlobWritePlan(chunker=FINE))
        assert (again.created, again.chunker, again.blocks) == (False, COARSE.text, 3)
        assert again.attributes.chunk_count == 3
        assert (again.stats.blocks, again.stats.fresh_blocks) == (12, 12), "what this put did"
        stat = await store.stat(again.key)
        assert stat is not None
        assert (stat.chunker, stat.blocks) == (again.chunker, again.blocks)


async def test_equal_cuts_look_no_block_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The put's own claims have just made sure of every one."""
    monkeypatch.setattr(manifest_checks, "MAX_BLOCKS_INSIDE", 0)
    looked: list[object] = []
    monkeypatch.setattr(manifest_checks, "check_outside", lambda *args: looked.append(args))
    async with opened(tmp_path) as store:
        first = await store.put(DATA)
        await damage_and_notice(store, first.key)
        again = await store.put(DATA)
        assert (again.created, again.stats.repaired_blocks) == (False, 1)
        assert await read(store, first.key) == DATA
    assert looked == []
