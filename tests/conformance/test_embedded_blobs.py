"""The laws of `BlobStore`, over the embedded default: files and SQLite in one folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.filesystem import FsBlockStore
from graviton.core.keys import BlobKey
from graviton.metadata.rows import OWNERS, OwnerRow
from graviton.ports.blobs import BlobStore
from graviton.ports.block_index import OwnerState
from graviton.testing.conformance.any_store import AnyStoreContract
from tests.support import SMALL_SPEC


class TestEmbeddedStore(AnyStoreContract):
    implementation = Store
    capabilities = FsBlockStore.capabilities
    large_bytes = 200_000

    def make_store(self) -> Store:
        kernel = os.environ.get("GRAVITON_KERNEL", "auto")
        self.store = Store(Settings(fs_root=self.scratch / "store", kernel=kernel, chunker=SMALL_SPEC))
        return self.store

    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        path = await self._a_block(key)
        data = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))

    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        (await self._a_block(key)).unlink()

    async def _a_block(self, key: BlobKey) -> Path:
        manifests = (await self.store.required()).manifests
        record = await manifests.get(key)
        keys = [entry.key async for page in manifests.pages(record) for entry in page]
        middle = keys[len(keys) // 2]
        return self.scratch / "store/cas/blocks" / middle.algo.value / f"{middle.hex}-{middle.size}"

    async def leftovers(self, store: BlobStore) -> Sequence[str]:
        left = [str(path) for path in (self.scratch / "store").rglob(".tmp*")]
        if await self.store.existing() is not None:
            kv = await self.store.metadata()
            rows = [OwnerRow.decode(value) async for _, value in kv.scan(OWNERS)]
            left += [f"open session {row}" for row in rows if row.state is OwnerState.OPEN]
            used = (await self.store.required()).budget.used
            left += [f"{used} bytes of memory"] if used else []
        return left
