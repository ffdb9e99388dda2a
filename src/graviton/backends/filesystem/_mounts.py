"""What kind of file system a folder is on, as far as durability depends on it."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["file_system_type", "syncfs_is_durable"]

_TRUSTED: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"})
"""Where syncfs writes everything out and waits for the disk. Not FUSE, whose server is not told, and not network and
stacked file systems, where that depends on versions; each file is fsynced by itself there."""

_MOUNTS: Final = "/proc/self/mountinfo"
_REPORTS_ERRORS_SINCE: Final = (5, 8)
"""Linux before 5.8 returned 0 from syncfs even when write-back had failed (syncfs(2), section "Versions")."""


def syncfs_is_durable(device: int) -> bool:
    """Whether a syncfs that succeeds on the device `st_dev` means that everything is on disk."""
    return _kernel_version() >= _REPORTS_ERRORS_SINCE and file_system_type(device) in _TRUSTED


def file_system_type(device: int) -> str:
    """Name of the type of the file system on the device `st_dev`, such as `ext4`; empty if it cannot be found out."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(_MOUNTS, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields = line.split(" ")
                if len(fields) > 2 and fields[2] == wanted:
                    return line.partition(" - ")[2].split(" ", 1)[0]
    except OSError:
        pass  # not Linux, or /proc is hidden: the answer is "unknown", the safe one
    return ""


def _kernel_version() -> tuple[int, int]:
    system = os.uname()
    parts = system.release.split(".")
    if system.sysname != "Linux" or len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return (0, 0)
    return int(parts[0]), int(parts[1])
