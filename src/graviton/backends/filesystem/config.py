"""`FsConfig`: where the blocks of a filesystem store lie and how hard it works."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from graviton.core.paths import check_path
from graviton.errors import ConfigError, InvalidInput

__all__ = ["DEFAULT_PREFIX", "TRASH_FOLDER", "UPLOADS_FOLDER", "FsConfig"]

DEFAULT_PREFIX = "cas/blocks"
"""Default of GRAVITON_FS_BLOCK_PREFIX; part of the exact layout."""

TRASH_FOLDER = "trash"
"""Folder below the root for blocks on their way out; never below the prefix, so that no listing finds them."""

UPLOADS_FOLDER = "uploads"
"""Folder below the root for parts of uploads that wait; never below the prefix, nor the other way round."""

MAX_WORKERS = 64
"""More threads than any disk queue profits from; each costs 8 MiB of address space."""


@dataclass(frozen=True, slots=True)
class FsConfig:
    """Settings of one filesystem store; a value out of bounds raises ConfigError."""

    root: Path
    """Folder of the store; created (0700) by the first put if it is missing."""
    prefix: str = DEFAULT_PREFIX
    """Relative path of the block folders below `root`."""
    workers: int = 8
    """Threads for all calls together, 1 to 64, started when they are needed. 8: single-block puts spend their time in
    fsync, and the journal commits the fsyncs that wait at the same moment as one."""
    fsync_workers: int = 4
    """Threads that write and fsync one batch of larger blocks, 1 to 64, if so many are free. 4: with write-back begun
    early more gain nothing, on a quiet disk nor on a busy one (benchmarks/filesystem/README.md)."""
    syncfs_min_files: int = 32
    """A batch of at least so many small files is made durable by one syncfs instead of one fsync each. On a quiet disk
    it wins from 4 files on; beside programs that write much, whose pages it waits for too, only from about 64."""
    syncfs_max_mean_bytes: int = 32 * 1024
    """What is small: the mean size of the files of a batch, in bytes, up to which syncfs is used. From 64 KiB on
    the data outweighs the flushes, and neither way wins always (benchmarks/filesystem/README.md)."""
    blocks_path: Path = field(init=False)
    """`root/prefix`; absolute, so that a later chdir changes nothing."""
    trash_path: Path = field(init=False)
    """`root/trash`."""
    uploads_path: Path = field(init=False)
    """`root/uploads`."""

    def __post_init__(self) -> None:
        if not str(self.root) or "\x00" in str(self.root):
            raise ConfigError("the root of a filesystem store is a path, not an empty text", operation="configure")
        try:
            check_path(self.prefix, "block prefix")
        except InvalidInput as error:
            raise ConfigError(str(error), operation="configure", subject=self.prefix, hint=error.hint) from error
        for folder, what in ((TRASH_FOLDER, "trash"), (UPLOADS_FOLDER, "uploads")):
            if self.prefix.split("/", 1)[0] == folder:
                raise ConfigError(
                    f"the block prefix {self.prefix!r} lies inside the {what} folder",
                    operation="configure",
                    subject=self.prefix,
                )
        _bounded("workers", self.workers, 1, MAX_WORKERS)
        _bounded("fsync_workers", self.fsync_workers, 1, MAX_WORKERS)
        _bounded("syncfs_min_files", self.syncfs_min_files, 2, 1 << 30)
        _bounded("syncfs_max_mean_bytes", self.syncfs_max_mean_bytes, 0, 1 << 30)
        root = Path(self.root).absolute()
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "blocks_path", root / self.prefix)
        object.__setattr__(self, "trash_path", root / TRASH_FOLDER)
        object.__setattr__(self, "uploads_path", root / UPLOADS_FOLDER)


def _bounded(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {low} to {high}, not {value}", operation="configure", subject=name)
