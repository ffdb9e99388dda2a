"""Facts about this machine that storage depends on: file systems, fsync, limits, memory. Linux; elsewhere less is
known, which is said as None or an empty text."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

__all__ = [
    "FileSystem",
    "count_entries",
    "existing_parent",
    "file_system",
    "fsync_seconds",
    "memory_limit",
    "open_files_limit",
]

_NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs"))
_NETWORK_FUSE = ("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.cephfs", "fuse.gcsfuse")
_IN_MEMORY = frozenset(("tmpfs", "ramfs"))

_MOUNTS = "/proc/self/mountinfo"
_SYNC_BYTES = 4096
_SYNCS = 9


class FileSystem(NamedTuple):
    """Where a folder lies."""

    kind: str
    """`ext4`, `xfs`, …; empty if unknown."""
    mount_point: str
    is_read_only: bool
    free_bytes: int
    """For this user."""
    total_bytes: int
    free_inodes: int | None
    """None where the file system makes them as needed."""

    @property
    def is_network(self) -> bool:
        """Whether other machines may write there, with all that means for locks and caches."""
        return self.kind in _NETWORK or self.kind.startswith(_NETWORK_FUSE)

    @property
    def is_in_memory(self) -> bool:
        """Whether everything is gone with the power."""
        return self.kind in _IN_MEMORY


def existing_parent(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def file_system(folder: Path, mounts: str = _MOUNTS) -> FileSystem:
    """The file system that holds the existing `folder`. Raises OSError."""
    found = os.statvfs(folder)
    kind, mount_point = _mount_of(os.path.realpath(folder), mounts)
    return FileSystem(
        kind,
        mount_point,
        bool(found.f_flag & os.ST_RDONLY),
        found.f_bavail * found.f_frsize,
        found.f_blocks * found.f_frsize,
        found.f_favail if found.f_files else None,
    )


def _mount_of(path: str, mounts: str) -> tuple[str, str]:
    """Type and place of the mount that holds `path`: the last one listed of the longest that contain it."""
    best = ("", "")
    with suppress(OSError), open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            fields = left.split(" ")
            if len(fields) < 5:
                continue
            place = fields[4].encode("latin-1", "surrogateescape").decode("unicode_escape")  # \040 is a space
            if len(place) >= len(best[1]) and (path == place or path.startswith(place.rstrip("/") + "/")):
                best = (right.split(" ", 1)[0], place)
    return best


def fsync_seconds(folder: Path) -> float:
    """How long a small write waits for the disk: the median of some in a nameless file. Raises OSError."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        times = []
        for _ in range(_SYNCS):
            begun = time.perf_counter()
            file.write(bytes(_SYNC_BYTES))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return median(times)


def count_entries(folder: Path) -> int:
    """Names in a folder; 0 if it is not there. A second for about two million. Raises OSError."""
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _ in entries)
    except FileNotFoundError:
        return 0


def open_files_limit() -> int:
    """How many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def memory_limit() -> int | None:
    """Bytes of memory this process may use at most: those of the machine or of its control group."""
    limits = []
    with suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            limits.append(int(Path(place).read_text("ascii")))
    return min(limits, default=None)
