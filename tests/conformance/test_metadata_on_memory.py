"""The laws of the metadata ports over `metadata/` on the reference key-value store."""

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.metadata.rows import PAGES, u64
from graviton.metadata.schema_store import KvSchemaStore
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.block_index import BlockIndexContract
from graviton.testing.conformance.manifests import BlobManifestRepoContract
from graviton.testing.conformance.metadata_values import Metadata, MetadataContract
from graviton.testing.conformance.outbox import OutboxContract
from graviton.testing.conformance.range_tracker import RangeTrackerContract
from graviton.testing.conformance.replicas import ReplicaIndexContract
from graviton.testing.conformance.schemas import SchemaStoreContract


class _OverKeyValues(MetadataContract):
    capabilities = InMemoryKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return InMemoryKeyValueStore()

    def make_metadata(self, store: KeyValueStore) -> Metadata:
        return Metadata(KvBlockIndex(store, self.clock), KvBlobManifestRepo(store, self.clock))


class TestBlockIndexOnMemory(_OverKeyValues, BlockIndexContract):
    implementation = KvBlockIndex


class TestOutboxOnMemory(_OverKeyValues, OutboxContract):
    implementation = KvOutbox

    def make_outbox(self, store: KeyValueStore) -> KvOutbox:
        return KvOutbox(store, poll_seconds=0.05)


class TestBlobManifestRepoOnMemory(_OverKeyValues, BlobManifestRepoContract):
    implementation = KvBlobManifestRepo

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


class TestReplicaIndexOnMemory(ReplicaIndexContract):
    implementation = KvReplicaIndex
    capabilities = InMemoryKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return InMemoryKeyValueStore()

    def make_port(self, store: KeyValueStore) -> KvReplicaIndex:
        return KvReplicaIndex(store)


class TestRangeTrackerOnMemory(RangeTrackerContract):
    implementation = KvRangeTracker
    capabilities = InMemoryKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return InMemoryKeyValueStore()

    def make_port(self, store: KeyValueStore) -> KvRangeTracker:
        return KvRangeTracker(store)


class TestSchemaStoreOnMemory(SchemaStoreContract):
    implementation = KvSchemaStore
    capabilities = InMemoryKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return InMemoryKeyValueStore()

    def make_port(self, store: KeyValueStore) -> KvSchemaStore:
        return KvSchemaStore(store)
