"""The laws of `BlockIndex`, `BlobManifestRepo` and `Outbox` over `metadata/` on RocksDB."""

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.metadata_values import MetadataContract
from tests.metadata_over_pairs import BlobManifestRepoOverPairs, BlockIndexOverPairs, OutboxOverPairs


class _OnRocks(MetadataContract):
    capabilities = RocksKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return RocksKeyValueStore(RocksConfig(self.scratch / "meta.rocks"))


class TestBlockIndexOnRocks(_OnRocks, BlockIndexOverPairs):
    implementation = KvBlockIndex


class TestOutboxOnRocks(_OnRocks, OutboxOverPairs):
    implementation = KvOutbox


class TestBlobManifestRepoOnRocks(_OnRocks, BlobManifestRepoOverPairs):
    implementation = KvBlobManifestRepo
