"""Settings to metadata: the store of each kind, the ports over it, and where it lies.

A block index, manifests and whatever else is kept stand over one key-value store, because claim and commit are one
transaction there; on PostgreSQL over the tables of one database.
"""

from __future__ import annotations

from graviton.assembly.settings import Settings
from graviton.core.clock import Clock
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.read_only import GuardedKeyValueStore, MetadataStore
from graviton.ports.block_index import BlockIndex
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import BlobManifestRepo
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.outbox import Outbox
from graviton.ports.range_tracker import RangeTracker

__all__ = [
    "empty_metadata",
    "metadata_exists",
    "metadata_holder",
    "metadata_place",
    "metadata_ports",
    "open_metadata",
    "outbox",
    "range_tracker",
]


def metadata_exists(settings: Settings) -> bool:
    """Whether there is a metadata store to open."""
    if settings.metadata not in ("sqlite", "rocksdb"):
        return settings.metadata == "postgres"  # a server is there, or using it says why not
    path = settings.metadata_path
    try:
        if settings.metadata == "rocksdb" and path.is_dir():
            return any(path.iterdir())  # of an empty folder a store is made
        return path.exists()
    except OSError:
        return True  # it cannot be looked at: opening it says why


def open_metadata(settings: Settings, create: bool, metrics: MetricsRegistry | None = None) -> MetadataStore:
    """The metadata store. With `create` it is made if it is missing, unless it is a database: that is made and migrated
    by its owner. Raises ConfigError, IntegrityError, PermissionDenied, Unavailable."""
    kv = _open_metadata(settings, create, metrics)
    return kv if isinstance(kv, MetadataStore) else GuardedKeyValueStore(kv)


def _open_metadata(settings: Settings, create: bool, metrics: MetricsRegistry | None) -> KeyValueStore:
    if settings.metadata == "memory":
        from graviton.backends.memory.kv import InMemoryKeyValueStore

        return InMemoryKeyValueStore()
    if settings.metadata == "postgres":
        from graviton.backends.postgres.database import PgDatabase
        from graviton.backends.postgres.metrics import PgMetrics
        from graviton.backends.postgres.rows.store import PgMetadataRows

        assert settings.postgres is not None, "settings_from reads the address"
        return PgMetadataRows(PgDatabase(settings.postgres, None if metrics is None else PgMetrics(metrics)))
    if settings.metadata == "rocksdb":
        from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore, RocksMetrics

        config = RocksConfig(
            settings.metadata_path,
            create=create,
            read_only=settings.metadata_read_only,
            lock_wait_seconds=settings.lock_wait_seconds,
        )
        return RocksKeyValueStore(config, None if metrics is None else RocksMetrics(metrics))
    from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore

    return SqliteKeyValueStore(SqliteConfig(settings.metadata_path, create=create))


def metadata_ports(
    settings: Settings, kv: KeyValueStore, clock: Clock | None = None
) -> tuple[BlockIndex, BlobManifestRepo]:
    """The two ports over an open metadata store."""
    if settings.metadata != "postgres":
        return KvBlockIndex(kv, clock), KvBlobManifestRepo(kv, clock)
    from graviton.backends.postgres.block_index import PgBlockIndex
    from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
    from graviton.backends.postgres.rows.store import PgMetadataRows

    assert isinstance(kv, PgMetadataRows), "opened by open_metadata"
    return PgBlockIndex(kv.database, clock), PgBlobManifestRepo(kv.database, clock)


def outbox(settings: Settings, kv: KeyValueStore) -> Outbox:
    """The events of an open metadata store."""
    if settings.metadata != "postgres":
        return KvOutbox(kv)
    from graviton.backends.postgres.outbox import PgOutbox
    from graviton.backends.postgres.rows.store import PgMetadataRows

    assert isinstance(kv, PgMetadataRows), "opened by open_metadata"
    return PgOutbox(kv.database)


def range_tracker(kv: KeyValueStore) -> RangeTracker:
    """What persisted spans are kept in, over an open metadata store of any kind."""
    if isinstance(kv, GuardedKeyValueStore):
        return KvRangeTracker(kv)
    from graviton.backends.postgres.range_tracker import PgRangeTracker
    from graviton.backends.postgres.rows.store import PgMetadataRows

    assert isinstance(kv, PgMetadataRows), "opened by open_metadata"
    return PgRangeTracker(kv.database)


def metadata_holder(settings: Settings) -> str | None:
    """Who has the metadata to himself just now, for people; None if nobody, or if they are for several at a time."""
    if settings.metadata != "rocksdb":
        return None
    from graviton.backends.rocksdb import who_has

    return who_has(str(settings.metadata_path))


def empty_metadata() -> KeyValueStore:
    """What stands for a metadata store that is not there, while somebody only looks."""
    from graviton.backends.memory.kv import InMemoryKeyValueStore

    return InMemoryKeyValueStore()


def metadata_place(settings: Settings) -> str:
    """Where the metadata lies, for people."""
    if settings.postgres is not None:
        return f"{settings.postgres.where} (schema {settings.postgres.schema})"
    return "memory://" if settings.metadata == "memory" else str(settings.metadata_path)
