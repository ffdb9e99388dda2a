"""The laws of `BlobStore`, over the content-addressed store on memory parts that give the event loop turns."""

import os
from collections.abc import Sequence

import pytest

from graviton.core.chunking import select_kernel
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobStore
from graviton.ports.blocks import CanonicalBlock
from graviton.ports.capabilities import Capabilities
from graviton.stores.cas import CasBlobStore
from graviton.testing.conformance.blobs import BlobStoreContract
from tests.support import World, YieldingBlocks

pytestmark = pytest.mark.python_kernel


class TestCasBlobStoreOnMemory(BlobStoreContract):
    implementation = CasBlobStore
    capabilities: Capabilities = YieldingBlocks.capabilities
    large_bytes = 200_000  # two hundred blocks

    def make_store(self) -> CasBlobStore:
        self.world = World(select_kernel(os.environ.get("GRAVITON_KERNEL", "auto")))
        return self.world.store

    async def tear_down(self) -> None:
        await self.world.kv.aclose()

    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        block = await self._a_block(key)
        data = self.world.blocks.blocks[block.key]
        self.world.blocks.blocks[block.key] = data[:-1] + bytes((data[-1] ^ 1,))

    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        del self.world.blocks.blocks[(await self._a_block(key)).key]

    async def _a_block(self, key: BlobKey) -> CanonicalBlock:
        record = await self.world.manifests.get(key)
        keys = [entry.key async for page in self.world.manifests.pages(record) for entry in page]
        middle = keys[len(keys) // 2]
        return CanonicalBlock(middle, self.world.blocks.blocks[middle])

    async def leftovers(self, store: BlobStore) -> Sequence[str]:
        left = [f"{await self.world.open_sessions()} open sessions", f"{self.world.budget.used} bytes of memory"]
        return [text for text in left if not text.startswith("0 ")]
