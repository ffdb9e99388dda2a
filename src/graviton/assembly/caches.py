"""The block caches of this process: one per folder, however many stores read through it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from graviton.assembly.cache_settings import CacheSettings
from graviton.backends.filesystem.cache_folder import FsCacheFolder
from graviton.backends.filesystem.errors import mapped
from graviton.constraints.budget import ByteBudget
from graviton.errors import ConfigError, GravitonError
from graviton.ports.blocks import BlockStore
from graviton.ports.kv import KeyValueStore
from graviton.ports.metrics import MetricsRegistry
from graviton.services import machine
from graviton.services.doctor import Check, Level
from graviton.stores.layers.cache.blocks import CachedBlockStore
from graviton.stores.layers.cache.cache import BlockCache

__all__ = ["cached", "check_cache", "open_index"]

_caches: dict[tuple[int, str], BlockCache] = {}
"""By process and folder: a child made by fork has none of the threads of its parent's."""
_lock = threading.Lock()


def cached(
    blocks: BlockStore, settings: CacheSettings, budget: ByteBudget, metrics: MetricsRegistry | None
) -> CachedBlockStore:
    """`blocks` behind the cache that `settings` name. What concerns the cache as a whole is told to the metrics of its
    first store. Touches nothing. Raises ConfigError if this process has that cache with another size."""
    return CachedBlockStore(blocks, _shared(settings, budget, metrics), metrics=metrics)


def _shared(settings: CacheSettings, budget: ByteBudget, metrics: MetricsRegistry | None) -> BlockCache:
    place = os.path.realpath(settings.root)
    with _lock:
        for other in [of for of in _caches if of[0] != os.getpid()]:
            del _caches[other]
        cache = _caches.get((os.getpid(), place))
        if cache is None or not cache.join():
            folder = FsCacheFolder(Path(place))
            cache = BlockCache(
                folder,
                lambda anew: open_index(folder.index_path, anew),
                settings.max_bytes,
                budget=budget,
                metrics=metrics,
            )
            _caches[os.getpid(), place] = cache
        elif cache.limit_bytes != settings.max_bytes:
            cache.leave()
            raise ConfigError(
                f"this process has a cache of {cache.limit_bytes} bytes at {place} already, not {settings.max_bytes}",
                operation="configure",
                subject="GRAVITON_CACHE_BYTES",
                hint="Give every store that shares a GRAVITON_CACHE_ROOT the same GRAVITON_CACHE_BYTES.",
            )
        return cache


def open_index(path: Path, anew: bool) -> KeyValueStore:
    """The key-value store of a cache's index; with `anew` an empty one in place of what lies there."""
    from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore

    if anew:
        with mapped("cache.index", str(path)):
            for end in ("", "-wal", "-shm", "-journal"):
                Path(f"{path}{end}").unlink(missing_ok=True)
    return SqliteKeyValueStore(SqliteConfig(path, max_readers=1))


def check_cache(settings: CacheSettings) -> Check:
    """For `graviton doctor` and `stats`: what is there, who keeps it, and whether there is room for the rest."""
    folder = FsCacheFolder(settings.root)
    try:
        entries, size = folder.look()
        keeper = folder.keeper()
        there = machine.existing_parent(folder.root)
        disk = machine.file_system(there)
    except (GravitonError, OSError) as error:
        text = error.message if isinstance(error, GravitonError) else f"{settings.root}: {error.strerror or error}"
        hint = "Reading goes on without it. Check the path, its owner and mode."
        return Check("cache", Level.WARNING, f"the cache cannot be used: {text}", hint)
    values = {
        "root": str(settings.root),
        "entries": entries,
        "bytes": size,
        "limit_bytes": settings.max_bytes,
        "keeper": keeper,
    }
    who = f"kept by process {keeper}" if keeper else "kept by no process now"
    text = f"{entries:,} blocks, {size / 2**30:,.2f} GiB of at most {settings.max_bytes / 2**30:,.2f}; {who}"
    hint = ""
    if disk.is_read_only or not os.access(there, os.W_OK | os.X_OK):
        hint = f"{there} cannot be written, so nothing new is cached."
    elif disk.is_network:
        hint = f"{there} is on a network file system ({disk.kind}): a cache belongs on a disk of this machine."
    elif disk.free_bytes < settings.max_bytes - size:
        hint = f"Only {disk.free_bytes / 2**30:,.2f} GiB are free there: lower GRAVITON_CACHE_BYTES, or make room."
    return Check("cache", Level.WARNING if hint else Level.OK, text, hint, values)
