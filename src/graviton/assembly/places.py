"""Where a store lies on this machine: what commands must not write over, and where large files of theirs may lie."""

from __future__ import annotations

import os

from graviton.assembly.settings import Settings
from graviton.services.own_places import OwnPlaces

__all__ = ["own_places", "spool_folder"]


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
