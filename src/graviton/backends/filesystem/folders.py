"""How full the block folders are, for `doctor` and `stats`: a number in no time, from the size of the folder itself."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from graviton.backends.filesystem._mounts import file_system_type
from graviton.backends.filesystem.blocks import FsBlockStore
from graviton.backends.filesystem.errors import mapped
from graviton.concurrency.calls import CancelFlag
from graviton.core.hashing import HashAlgo

__all__ = ["WARN_ENTRIES", "FolderLoad", "folder_loads"]

WARN_ENTRIES: Final = 5_000_000
"""Entries of one folder from which people are warned: ext4 without `large_dir` ends near 9 million of our names."""

_ENTRY_BYTES: Final = 120
"""Bytes of an ext4 folder per entry: 8 for inode number and lengths, 72 for `<hex>-<size>`, in leaves of the hash tree
that are between half and quite full. Measured 131, 128, 125, 120 with 1,000, 10,000, 50,000, 150,000 entries. A folder
never shrinks, so after large deletions the estimate is too high, never much too low."""
_TELLING: Final = frozenset({"ext2", "ext3", "ext4"})
"""Where the size of a folder grows with its entries; elsewhere it says nothing (Btrfs) or there is no limit to warn of
(XFS)."""


class FolderLoad(NamedTuple):
    """One folder of blocks."""

    path: str
    entries: int | None
    """About how many; None where the file system does not tell cheaply."""

    @property
    def is_too_full(self) -> bool:
        """Whether people should be warned."""
        return self.entries is not None and self.entries >= WARN_ENTRIES


async def folder_loads(store: FsBlockStore) -> list[FolderLoad]:
    """The folders of `store` that exist, one per algorithm. Reads no folder; one thread hop."""

    def look(flag: CancelFlag) -> list[FolderLoad]:
        return [load for algo in HashAlgo if (load := _load(store.folder_path(algo))) is not None]

    return await store.pool.run(look)


def _load(path: str) -> FolderLoad | None:
    with mapped("doctor", path):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
    telling = file_system_type(found.st_dev) in _TELLING
    return FolderLoad(path, found.st_size // _ENTRY_BYTES if telling else None)
