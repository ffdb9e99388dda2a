"""The laws of `BlobStore`, over every implementation."""

from graviton.backends.memory.blobs import InMemoryBlobStore
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobStore
from graviton.testing.conformance.blobs import BlobStoreContract


class TestInMemoryBlobStore(BlobStoreContract):
    implementation = InMemoryBlobStore

    def make_store(self) -> InMemoryBlobStore:
        return InMemoryBlobStore()

    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        self._change(store, key, lambda data: data[:-1] + bytes((data[-1] ^ 1,)))

    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        self._change(store, key, lambda data: data[: len(data) // 2])

    @staticmethod
    def _change(store: BlobStore, key: BlobKey, change: object) -> None:
        assert isinstance(store, InMemoryBlobStore)
        assert callable(change)
        blob = store.blobs["", key]
        store.blobs["", key] = blob._replace(data=change(blob.data))
