"""Blocks and objects in a directory."""

from __future__ import annotations

from graviton.backends.filesystem.blocks import FsBlockStore
from graviton.backends.filesystem.config import FsConfig
from graviton.backends.filesystem.objects import FsImmutableObjectStore, FsMutableObjectStore, FsObjectConfig
from graviton.backends.filesystem.reclaimer import FsBlockReclaimer

__all__ = [
    "FsBlockReclaimer",
    "FsBlockStore",
    "FsConfig",
    "FsImmutableObjectStore",
    "FsMutableObjectStore",
    "FsObjectConfig",
]
