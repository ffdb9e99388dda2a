"""The laws of `BlockStore`, over every implementation."""

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.testing.conformance.blocks import BlockStoreContract


class TestInMemoryBlockStore(BlockStoreContract):
    implementation = InMemoryBlockStore

    def make_store(self) -> InMemoryBlockStore:
        return InMemoryBlockStore()

    async def raw_write(self, store: BlockStore, one: CanonicalBlock) -> None:
        assert isinstance(store, InMemoryBlockStore)
        store.blocks[one.key] = bytes(one.payload)

    async def raw_read(self, store: BlockStore, one: CanonicalBlock) -> bytes | None:
        assert isinstance(store, InMemoryBlockStore)
        return store.blocks.get(one.key)
