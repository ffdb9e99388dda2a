"""The laws of `BlockStore` through a cache: over memory, over files, and with a cache that cannot be used."""

from collections.abc import Sequence
from pathlib import Path

from graviton.backends.filesystem import FsBlockStore
from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.stores.layers.cache.blocks import CachedBlockStore
from graviton.testing.conformance.blocks import BlockStoreContract
from tests.conformance.test_filesystem_blocks import TestFsBlockStore as OverFiles
from tests.unit.cache.caches import Cached


class TestCachedMemory(BlockStoreContract):
    implementation = CachedBlockStore
    capabilities = InMemoryBlockStore.capabilities

    def make_store(self) -> CachedBlockStore:
        return Cached(self.scratch / "cache", InMemoryBlockStore(), limit=64 << 20)

    async def raw_write(self, store: BlockStore, one: CanonicalBlock) -> None:
        self.inner(store).blocks[one.key] = bytes(one.payload)

    async def raw_read(self, store: BlockStore, one: CanonicalBlock) -> bytes | None:
        return self.inner(store).blocks.get(one.key)

    def inner(self, store: BlockStore) -> InMemoryBlockStore:
        assert isinstance(store, Cached)
        assert isinstance(store.inner, InMemoryBlockStore)
        return store.inner


class TestCachedFiles(OverFiles):
    implementation = CachedBlockStore
    capabilities = FsBlockStore.capabilities._replace(runs_in_place=False)

    def make_store(self) -> CachedBlockStore:  # type: ignore[override]
        return Cached(self.scratch / "cache", super().make_store(), limit=64 << 20)

    async def temporary_files(self, store: BlockStore) -> Sequence[str]:
        assert isinstance(store, Cached)
        await store.cache.settled()
        unfinished = [path.name for path in (self.scratch / "cache").rglob(".fill-*")]
        return [*unfinished, *await super().temporary_files(store)]


class TestCachedFilesWithoutACache(TestCachedFiles):
    """A file lies where its folder should be: reading goes on as if there were none."""

    async def set_up(self) -> None:
        Path(self.scratch, "cache").write_bytes(b"in the way")
