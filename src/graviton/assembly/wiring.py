"""Settings to layers: which backends, and in what order.

A store is, from the outside in: `CasBlobStore` over a block store, a block index and manifests (metadata_side.py).
Around the block store goes the cache, outermost, so that it spares whatever lies below; only readers of blobs look at
it. `BlockSide.blocks`, which puts, verification, doctor, repair and collection use, is never the cached one: a copy
nearby must not hide that the original is gone.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from graviton.assembly.block_side import BlockSide
from graviton.assembly.metadata_side import metadata_ports
from graviton.assembly.settings import Settings
from graviton.concurrency.executors import in_own_thread
from graviton.constraints.budget import ByteBudget
from graviton.core.chunking import DEFAULT_SPEC, ChunkerSpec, Kernel, select_kernel
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.core.policies import StorePolicy
from graviton.errors import ConfigError
from graviton.metadata.block_prefix import BlockPlace
from graviton.metadata.marker import StoreMarker
from graviton.ports.blocks import BlockStore
from graviton.ports.capabilities import Capabilities
from graviton.ports.events import EventSink
from graviton.ports.kv import KeyValueStore
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.tracing import Tracer
from graviton.services.uploads.parts import PartPlace
from graviton.stores.cas import CasBlobStore
from graviton.stores.layers.traced import TracedBlockStore
from graviton.stores.results import CasDefaults

__all__ = [
    "BlockSide",
    "Layers",
    "blob_store",
    "block_side",
    "kernel_for",
    "process_budget",
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


class Layers(NamedTuple):
    """What a store is composed of, but for its metadata: those are opened when it is first used."""

    settings: Settings
    kernel: Kernel
    side: BlockSide
    policy: StorePolicy | None
    budget: ByteBudget
    metrics: MetricsRegistry | None
    events: EventSink | None
    tracer: Tracer | None


def blob_store(layers: Layers, kv: KeyValueStore, marker: StoreMarker | None) -> CasBlobStore:
    """The store that users put into. `marker` says what it was made with."""
    settings, budget, metrics, tracer = layers.settings, layers.budget, layers.metrics, layers.tracer
    blocks = _traced(layers.side.blocks, tracer)
    reads = None
    if settings.cache is not None:
        from graviton.assembly.caches import cached

        reads = _traced(cached(layers.side.blocks, settings.cache, budget, metrics), tracer)
    limits = None
    if settings.limits.concern_stores:
        from graviton.assembly.limits import store_limits

        limits = store_limits(settings.limits, kv, metrics)
    made_with = (DEFAULT_HASH, DEFAULT_SPEC) if marker is None else (marker.hash, ChunkerSpec.parse(marker.chunker))
    defaults = CasDefaults(settings.hash or made_with[0], settings.chunker or made_with[1], layers.policy)
    return CasBlobStore(
        layers.kernel,
        blocks,
        *metadata_ports(settings, kv),
        layers.side.reclaimer,
        reads=reads,
        defaults=defaults,
        budget=budget,
        limits=limits,
        metrics=metrics,
        events=layers.events,
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
