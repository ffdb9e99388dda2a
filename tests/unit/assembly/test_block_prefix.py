"""A wrong block prefix touches nothing, and a right one is never refused."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import ConfigError, IntegrityError
from graviton.metadata.block_prefix import PREFIX_KEY
from graviton.metadata.rows import STORE
from tests.unit.services.stores import noise, opened, verified

DATA = noise(9_000)
KEY = BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))


async def filled(root: Path, remembers: bool = True, prefix: str = "cas/blocks") -> None:
    """A store with a blob; as an older program leaves it, if it remembers nothing."""
    async with opened(root, fs_block_prefix=prefix) as store:
        await store.put(DATA)
        if not remembers:
            await (await store.metadata()).delete(STORE, PREFIX_KEY)


async def is_refused(store: Store, root: Path) -> str:
    before = sorted(root.rglob("*"))
    hint = ""
    for call in (store.get(KEY), store.put(b"other"), store.put(DATA), store.stat(KEY), store.metadata()):
        with pytest.raises(ConfigError) as caught:
            await call
        hint = caught.value.hint
    assert sorted(root.rglob("*")) == before
    return hint


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("wrong", ["elsewhere", "cas", "cas/blocks/blake3"])
async def test_wrong_prefix_is_refused(tmp_path: Path, remembers: bool, wrong: str) -> None:
    await filled(tmp_path, remembers)
    async with opened(tmp_path, fs_block_prefix=wrong) as store:
        hint = await is_refused(store, tmp_path)
    assert "GRAVITON_FS_BLOCK_PREFIX" in hint
    assert "graviton store adopt" in hint
    async with opened(tmp_path) as store:
        assert (await verified(store)).damages == []


async def test_prefix_that_holds_other_blocks_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    shutil.copytree(tmp_path / "cas/blocks", tmp_path / "other")
    async with opened(tmp_path, fs_block_prefix="other") as store:
        await is_refused(store, tmp_path)
        await store.adopt()
    async with opened(tmp_path, fs_block_prefix="other") as store:
        assert not (await store.put(DATA)).created
    async with opened(tmp_path) as store:
        with pytest.raises(ConfigError, match="'other', not 'cas/blocks'"):
            await store.totals()


async def test_older_store_remembers_from_its_first_put_on(tmp_path: Path) -> None:
    await filled(tmp_path, remembers=False)
    async with opened(tmp_path) as store:
        assert await store.stat(KEY) is not None
        kv = await store.metadata()
        assert await kv.get(STORE, PREFIX_KEY) is None, "reading writes nothing"
        await store.put(b"more")
        assert await kv.get(STORE, PREFIX_KEY) == b"cas/blocks"


@pytest.mark.parametrize("remembers", [True, False])
async def test_lost_blocks_are_damage_and_not_a_wrong_prefix(tmp_path: Path, remembers: bool) -> None:
    await filled(tmp_path, remembers)
    for path in (tmp_path / "cas/blocks/blake3").iterdir():
        path.unlink()
    async with opened(tmp_path) as store:
        assert len((await verified(store)).damages) == 3
        with pytest.raises(IntegrityError):
            await (await store.get(KEY)).read()
        assert (await store.put(DATA)).stats.repaired_blocks == 3


async def test_the_whole_tree_may_be_lost(tmp_path: Path) -> None:
    await filled(tmp_path)
    shutil.rmtree(tmp_path / "cas")
    async with opened(tmp_path) as store:
        assert len((await verified(store)).damages) == 3
        assert (await store.put(DATA)).stats.repaired_blocks == 3


async def test_empty_stores_take_any_prefix_until_the_first_put(tmp_path: Path) -> None:
    async with opened(tmp_path, fs_block_prefix="a") as store:
        assert await store.marker() is None
    async with opened(tmp_path, fs_block_prefix="b") as store:
        await store.put(b"")
        await store.put(DATA)
        assert (await verified(store)).damages == []


async def test_of_two_first_writers_with_different_prefixes_one_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, fs_block_prefix="a") as a, opened(tmp_path, fs_block_prefix="b") as b:
        results = await asyncio.gather(a.put(DATA), b.put(DATA), return_exceptions=True)
        assert sorted(isinstance(one, ConfigError) for one in results) == [False, True]
        assert (tmp_path / "a").exists() is not (tmp_path / "b").exists()
