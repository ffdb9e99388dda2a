"""The laws of `BlockReclaimer`, over every implementation."""

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.reclaimer import InMemoryBlockReclaimer
from graviton.ports.blocks import BlockStore
from graviton.ports.reclaimer import TrashEntry
from graviton.testing.conformance.reclaimer import BlockReclaimerContract


class TestInMemoryBlockReclaimer(BlockReclaimerContract):
    implementation = InMemoryBlockReclaimer
    capabilities = InMemoryBlockStore.capabilities

    def make_store(self) -> InMemoryBlockStore:
        return InMemoryBlockStore()

    def make_reclaimer(self, store: BlockStore) -> InMemoryBlockReclaimer:
        assert isinstance(store, InMemoryBlockStore)
        return InMemoryBlockReclaimer(store)

    async def raw_write_trash(self, store: BlockStore, entry: TrashEntry, data: bytes) -> None:
        assert isinstance(store, InMemoryBlockStore)
        store.trash[entry] = data
