"""A `Store` opens when it is used, makes nothing by looking, and refuses what does not belong together."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.constraints.budget import DEFAULT_BUDGET_BYTES
from graviton.core.policies import BlobLayout
from graviton.errors import ConfigError, InvalidInput, NotFound, Unavailable, Unsupported
from graviton.metadata.backup import backup_metadata
from graviton.metadata.marker import MARKER_FILE
from graviton.metadata.restore import restore_metadata


async def test_opening_and_reading_create_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    key = graviton.BlobKey.parse("blake3:" + "0" * 64 + ":5")
    async with graviton.open(root) as store:
        assert await store.stat(key) is None
        assert not await store.delete(key)
        assert [stat async for stat in store.list()] == []
        assert await store.totals() == (0, 0, 0, 0)
        assert await store.marker() is None
        with pytest.raises(NotFound, match="no store"):
            await store.get(key)
    assert not root.exists()


async def test_the_first_put_makes_the_store_and_others_find_it(tmp_path: Path) -> None:
    async with graviton.open(tmp_path, hash="sha256", chunker="small") as store:
        result = await store.put(b"hello")
        assert result.key.algo is graviton.HashAlgo.SHA256
    assert (tmp_path / MARKER_FILE).exists()
    async with graviton.open(tmp_path) as again:
        async with await again.get(result.key) as reader:
            assert await reader.read() == b"hello"
        other = await again.put(b"other")
        assert other.key.algo is graviton.HashAlgo.SHA256, "the store's own hash is the default"
        assert other.chunker == graviton.ChunkerSpec.parse("small").text


async def test_another_hash_or_chunker_is_used_with_a_warning(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"hello")
    async with graviton.open(tmp_path, chunker="small") as store:
        with pytest.warns(UserWarning, match="chunker"):
            result = await store.put(b"hello again")
    assert result.chunker == graviton.ChunkerSpec.parse("small").text


async def test_blocks_without_their_metadata_are_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"hello")
    (tmp_path / "meta.sqlite").unlink()
    before = sorted(tmp_path.rglob("*"))
    async with graviton.open(tmp_path) as store:
        with pytest.raises(ConfigError, match="knows no store"):
            await store.put(b"other")
        with pytest.raises(ConfigError):
            [stat async for stat in store.list()]
    assert sorted(tmp_path.rglob("*")) == before


async def test_metadata_of_another_store_is_refused_until_it_is_adopted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        async with graviton.open(tmp_path / name) as store:
            await store.put(name.encode())
    shutil.copy(tmp_path / "a/meta.sqlite", tmp_path / "b/meta.sqlite")
    async with graviton.open(tmp_path / "b") as store:
        with pytest.raises(ConfigError, match="belong to store") as caught:
            await store.put(b"more")
        assert "graviton store adopt" in caught.value.hint
        adopted = await store.adopt()
    async with graviton.open(tmp_path / "b") as store:
        assert await store.marker() == adopted
        assert (await store.put(b"more")).created


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"hello")
    marker = tmp_path / MARKER_FILE
    marker.write_text(marker.read_text().replace('"format_version": 1', '"format_version": 2'))
    async with graviton.open(tmp_path) as store:
        with pytest.raises(ConfigError, match=r"version 2"):
            await store.put(b"other")


async def test_init_says_whether_it_made_the_store(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        marker, made = await store.init()
        assert made
        assert await store.init() == (marker, False)


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = graviton.open(tmp_path)
    result = await store.put(b"hello")
    await store.aclose()
    await store.aclose()
    for call in (store.put(b"x"), store.get(result.key), store.stat(result.key), store.totals()):
        with pytest.raises(Unavailable):
            await call


async def test_a_policy_of_the_store_applies_to_puts_without_one(tmp_path: Path) -> None:
    async with graviton.open(tmp_path, policy=graviton.StorePolicy(layout=BlobLayout.FRAMED)) as store:
        with pytest.raises(Unsupported):
            await store.put(b"hello")


async def test_first_puts_at_once_make_one_store(tmp_path: Path) -> None:
    stores = [graviton.open(tmp_path) for _ in range(4)]
    results = await asyncio.gather(*(store.put(b"%d" % n) for n, store in enumerate(stores * 3)))
    assert sum(result.created for result in results) == 12
    markers = {await store.marker() for store in stores}
    assert len(markers) == 1
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize("arguments", [{"hash": "md5"}, {"chunker": "w16:1:2:3"}])
def test_malformed_arguments_are_refused_at_once(tmp_path: Path, arguments: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        graviton.open(tmp_path, **arguments)  # type: ignore[arg-type]


async def test_another_memory_budget_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "first") as store:
        await store.put(b"hello")

    async def use() -> None:
        async with graviton.open(tmp_path / "second", memory_bytes=DEFAULT_BUDGET_BYTES + 1) as store:
            await store.put(b"hello")

    with pytest.raises(ConfigError, match="memory budget"):
        await use()
    assert not (tmp_path / "second").exists()


def test_the_public_names_are_all_there() -> None:
    for name in graviton.__all__:
        assert getattr(graviton, name) is not None
    assert set(graviton.__all__) <= set(dir(graviton))
    assert graviton.Store is Store
    with pytest.raises(AttributeError):
        _ = graviton.nothing


async def test_blocks_without_metadata_are_adopted_only_if_that_is_said(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        key = (await store.put(b"hello")).key
        await backup_metadata(await store.metadata(), tmp_path / "backup")
    (tmp_path / "meta.sqlite").unlink()
    before = sorted(tmp_path.rglob("*"))
    async with graviton.open(tmp_path) as store:
        with pytest.raises(ConfigError, match="is empty") as caught:
            await store.adopt()
        assert "graviton meta restore FILE" in caught.value.hint
        assert sorted(tmp_path.rglob("*")) == before
        await store.adopt(without_metadata=True)
    async with graviton.open(tmp_path) as store:
        assert await store.stat(key) is None
        with pytest.raises(ConfigError, match="is empty"):
            await store.adopt()
        cas = await store.required()
        await restore_metadata(await store.metadata(), tmp_path / "backup", blocks_exist=cas.blocks.exists_many)
    async with graviton.open(tmp_path) as store:
        await store.adopt()
    async with graviton.open(tmp_path) as store, await store.get(key) as reader:
        assert await reader.read() == b"hello"


async def test_empty_blocks_are_adopted_with_empty_metadata(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        made = await store.adopt()
    async with graviton.open(tmp_path) as store:
        assert await store.marker() == made


async def test_undelete_brings_a_blob_back(tmp_path: Path) -> None:
    async with graviton.open(tmp_path / "store") as store:
        key = graviton.BlobKey(graviton.HashAlgo.BLAKE3.digest(b"hello"), 5)
        assert await store.undelete(key) is False, "there is no store, and none is made"
        assert not (tmp_path / "store").exists()
        await store.put(b"hello")
        assert await store.undelete(key) is False, "it is there"
        assert await store.delete(key) is True
        assert await store.undelete(key) is True
        assert await store.stat(key) is not None
        assert await store.quota() is None
