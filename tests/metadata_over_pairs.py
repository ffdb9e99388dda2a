"""What the suites of the metadata ports need of `metadata/` over a key-value store, whichever that is."""

from __future__ import annotations

from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.rows import PAGES, u64
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.block_index import BlockIndexContract
from graviton.testing.conformance.manifests import BlobManifestRepoContract
from graviton.testing.conformance.metadata_values import Metadata, MetadataContract
from graviton.testing.conformance.outbox import OutboxContract

__all__ = ["BlobManifestRepoOverPairs", "BlockIndexOverPairs", "OutboxOverPairs"]


class _OverPairs(MetadataContract):
    def make_metadata(self, store: KeyValueStore) -> Metadata:
        return Metadata(KvBlockIndex(store, self.clock), KvBlobManifestRepo(store, self.clock))


class BlockIndexOverPairs(_OverPairs, BlockIndexContract):
    pass


class OutboxOverPairs(_OverPairs, OutboxContract):
    def make_outbox(self, store: KeyValueStore) -> KvOutbox:
        return KvOutbox(store, poll_seconds=0.05)


class BlobManifestRepoOverPairs(_OverPairs, BlobManifestRepoContract):
    async def set_up(self) -> None:
        await super().set_up()
        self.page_keys: dict[int, list[bytes]] = {}

    async def raw_read_pages(self, store: KeyValueStore, owner: int) -> list[bytes]:
        rows = [row async for row in store.scan(PAGES, u64(owner))]
        self.page_keys[owner] = [key for key, _ in rows]
        return [value for _, value in rows]

    async def raw_write_pages(self, store: KeyValueStore, owner: int, pages: list[bytes | None]) -> None:
        for key, page in zip(self.page_keys[owner], pages, strict=True):
            if page is None:
                await store.delete(PAGES, key)
            else:
                await store.put(PAGES, key, page)
