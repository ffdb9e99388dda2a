"""Settings to layers: the only place that names backends.

A store is, from the outside in: `CasBlobStore` over a block store, a block index and manifests; the last two over one
key-value store, because claim and commit are one transaction there. Around the block store goes the cache, outermost,
so that it spares whatever lies below; only readers of blobs look at it. `BlockSide.blocks`, which puts, verification,
doctor, repair and collection use, is never the cached one: a copy nearby must not hide that the original is gone.
"""

from __future__ import annotations

import os
import threading

from graviton.assembly.block_side import BlockSide
from graviton.assembly.settings import Settings
from graviton.concurrency.executors import in_own_thread
from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import DEFAULT_SPEC, ChunkerSpec, Kernel, select_kernel
from graviton.core.clock import Clock
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.core.policies import StorePolicy
from graviton.errors import ConfigError
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.block_prefix import BlockPlace
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.marker import StoreMarker
from graviton.metadata.outbox import KvOutbox
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.read_only import GuardedKeyValueStore, MetadataStore
from graviton.ports.block_index import BlockIndex
from graviton.ports.blocks import BlockStore
from graviton.ports.capabilities import Capabilities
from graviton.ports.events import EventSink
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import BlobManifestRepo
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.outbox import Outbox
from graviton.ports.range_tracker import RangeTracker
from graviton.ports.tracing import Tracer
from graviton.services.own_places import OwnPlaces
from graviton.services.uploads.parts import PartPlace
from graviton.stores.cas import CasBlobStore
from graviton.stores.layers.traced import TracedBlockStore
from graviton.stores.results import CasDefaults

__all__ = [
    "BlockSide",
    "blob_store",
    "block_side",
    "empty_metadata",
    "kernel_for",
    "metadata_exists",
    "metadata_holder",
    "metadata_place",
    "metadata_ports",
    "open_metadata",
    "outbox",
    "own_places",
    "process_budget",
    "range_tracker",
    "spool_folder",
    "store_capabilities",
]


def block_side(
    settings: Settings,
    kernel: Kernel,
    metrics: MetricsRegistry | None = None,
    events: EventSink | None = None,
) -> BlockSide:
    """The block store, its reclaimer and its marker. Touches nothing."""
    if settings.s3 is not None or settings.bucket_url:
        from graviton.assembly.buckets import bucket_side

        return bucket_side(settings, metrics, events)
    if settings.blob_backend == "memory":
        from graviton.backends.memory.blocks import InMemoryBlockStore
        from graviton.backends.memory.marker import InMemoryMarkerStore
        from graviton.backends.memory.objects import InMemoryMutableObjectStore
        from graviton.backends.memory.reclaimer import InMemoryBlockReclaimer

        memory, parts = InMemoryBlockStore(), InMemoryMutableObjectStore()
        waiting = PartPlace(parts, parts.scheme, parts.bucket, is_shared=True)
        return BlockSide(memory, InMemoryBlockReclaimer(memory), InMemoryMarkerStore(), part_place=lambda: waiting)
    from graviton.backends.filesystem import FsBlockReclaimer, FsBlockStore, FsConfig
    from graviton.backends.filesystem.marker import FsMarkerStore

    config = FsConfig(settings.fs_root, settings.fs_block_prefix)
    files = FsBlockStore(config, syncfs=kernel.syncfs, batches=kernel)

    async def exists() -> bool:
        return await in_own_thread(_has_folders, [files.folder_path(algo) for algo in HashAlgo])

    def part_place() -> PartPlace:
        from graviton.backends.filesystem.object_leftovers import FsObjectLeftovers
        from graviton.backends.filesystem.objects import FsMutableObjectStore, FsObjectConfig

        objects = FsMutableObjectStore(FsObjectConfig(config.uploads_path, "uploads"))
        return PartPlace(objects, "file", objects.config.bucket, leftovers=FsObjectLeftovers(config.uploads_path))

    place = BlockPlace(config.prefix, str(config.blocks_path), "GRAVITON_FS_BLOCK_PREFIX", exists)
    return BlockSide(files, FsBlockReclaimer(files), FsMarkerStore(config.root), place, part_place=part_place)


def _has_folders(paths: list[str]) -> bool:
    """Whether one of them is there, or may be: what cannot be looked at is not gone."""
    for path in paths:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return True
        return True
    return False


def store_capabilities(settings: Settings, side: BlockSide) -> Capabilities:
    """What a store over that side can do: metadata in RocksDB, or in memory, are for one process at a time."""
    found = side.blocks.capabilities
    return found._replace(multi_process=False) if settings.metadata in ("rocksdb", "memory") else found


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


def own_places(settings: Settings) -> OwnPlaces:
    """Where a store of these settings lies, so that nobody's command writes over it. Raises ConfigError."""
    places = OwnPlaces()
    if settings.server is not None:
        return places  # it lies on the server
    if settings.metadata == "sqlite":
        # SQLite follows symbolic links before it names what lies beside the database.
        database = os.path.realpath(settings.metadata_path)
        places = places._replace(database=tuple(database + end for end in ("", "-wal", "-shm", "-journal")))
    if settings.metadata == "rocksdb":
        folder = os.path.realpath(settings.metadata_path)
        places = places._replace(database=(os.path.join(folder, "LOCK"),), folders=(folder,))
    if settings.blob_backend == "fs":
        from graviton.backends.filesystem import FsConfig
        from graviton.backends.filesystem.marker import FsMarkerStore

        config = FsConfig(settings.fs_root, settings.fs_block_prefix)
        folders = (*places.folders, str(config.blocks_path), str(config.trash_path), str(config.uploads_path))
        if settings.limits.spill_root is None:  # one that was named may hold more than spilled bytes
            folders = (*folders, str(settings.spill_root))
        places = places._replace(root=str(config.root), folders=folders, files=(FsMarkerStore(config.root).path,))
    return places


def spool_folder(settings: Settings) -> str | None:
    """Where large files without a name are written, on the disk that the store is meant for; None leaves it to the
    system."""
    return None if settings.server is not None else str(settings.fs_root)


def blob_store(
    settings: Settings,
    kernel: Kernel,
    kv: KeyValueStore,
    side: BlockSide,
    marker: StoreMarker | None,
    policy: StorePolicy | None,
    budget: ByteBudget,
    metrics: MetricsRegistry | None,
    events: EventSink | None,
    tracer: Tracer | None,
) -> CasBlobStore:
    """The store that users put into, over the two sides."""
    made_with = marker.chunker if marker is not None else DEFAULT_SPEC.text
    reads = None
    if settings.cache is not None:
        from graviton.assembly.caches import cached

        reads = _traced(cached(side.blocks, settings.cache, budget, metrics), tracer)
    defaults = CasDefaults(
        settings.hash or (marker.hash if marker is not None else DEFAULT_HASH),
        settings.chunker or ChunkerSpec.parse(made_with),
        policy,
    )
    index, manifests = metadata_ports(settings, kv)
    limits = None
    if settings.limits.concern_stores:
        from graviton.assembly.limits import store_limits

        limits = store_limits(settings.limits, kv, metrics)
    return CasBlobStore(
        kernel,
        _traced(side.blocks, tracer),
        index,
        manifests,
        side.reclaimer,
        reads=reads,
        defaults=defaults,
        budget=budget,
        limits=limits,
        metrics=metrics,
        events=events,
        tracer=tracer,
    )


def _traced(blocks: BlockStore, tracer: Tracer | None) -> BlockStore:
    return blocks if tracer is None else TracedBlockStore(blocks, tracer)


def kernel_for(settings: Settings) -> Kernel:
    """The kernel that the settings ask for. Raises ConfigError."""
    return select_kernel(settings.kernel)


_budget: ByteBudget | None = None
_budget_lock = threading.Lock()


def process_budget(total: int) -> ByteBudget:
    """The one byte budget of this process; the first caller decides its size. Raises ConfigError for another size."""
    global _budget  # noqa: PLW0603 - a process has one memory
    with _budget_lock:
        if _budget is None:
            _budget = ByteBudget(total)
        elif _budget.total != total:
            raise ConfigError(
                f"this process has a memory budget of {_budget.total} bytes already, not {total}",
                operation="configure",
                hint="Give every store of a process the same GRAVITON_MEMORY_BYTES.",
            )
        return _budget
