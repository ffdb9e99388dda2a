"""The laws of `BlockIndex`, `BlobManifestRepo` and `Outbox` over `metadata/` on SQLite, the embedded default."""

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.ports.kv import KeyValueStore
from graviton.testing.conformance.metadata_values import MetadataContract
from tests.metadata_over_pairs import BlobManifestRepoOverPairs, BlockIndexOverPairs, OutboxOverPairs


class _OnSqlite(MetadataContract):
    capabilities = SqliteKeyValueStore.capabilities

    def make_store(self) -> KeyValueStore:
        return SqliteKeyValueStore(SqliteConfig(self.scratch / "meta.sqlite"))


class TestBlockIndexOnSqlite(_OnSqlite, BlockIndexOverPairs):
    implementation = KvBlockIndex


class TestOutboxOnSqlite(_OnSqlite, OutboxOverPairs):
    implementation = KvOutbox


class TestBlobManifestRepoOnSqlite(_OnSqlite, BlobManifestRepoOverPairs):
    implementation = KvBlobManifestRepo
