"""The laws of the metadata ports over `metadata/` on the reference key-value store."""

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.metadata.schema_store import KvSchemaStore
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.metadata_values import MetadataContract
from graviton.testing.conformance.range_tracker import RangeTrackerContract
from graviton.testing.conformance.replicas import ReplicaIndexContract
from graviton.testing.conformance.schemas import SchemaStoreContract
from tests.metadata_over_pairs import BlobManifestRepoOverPairs, BlockIndexOverPairs, OutboxOverPairs


class _OnMemory(MetadataContract):
    capabilities = InMemoryKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return InMemoryKeyValueStore()


class TestBlockIndexOnMemory(_OnMemory, BlockIndexOverPairs):
    implementation = KvBlockIndex


class TestOutboxOnMemory(_OnMemory, OutboxOverPairs):
    implementation = KvOutbox


class TestBlobManifestRepoOnMemory(_OnMemory, BlobManifestRepoOverPairs):
    implementation = KvBlobManifestRepo


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
