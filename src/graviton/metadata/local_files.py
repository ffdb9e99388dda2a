"""What metadata stores in local files share: folders that are durable, and what the system's errors mean."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from graviton.errors import GravitonError, PermissionDenied, StorageFull, Unavailable

__all__ = ["make_folder", "remove_made", "sync_folder", "translate_os"]


def translate_os(error: OSError, path: str, operation: str, verb: str) -> GravitonError:
    """The error of ours for a call of the system's that was to `verb` the store at `path` or what lies beside it."""
    kind: type[GravitonError] = Unavailable
    what, hint = f"cannot {verb}", "Look at the system log and the health of the disk; then try again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        kind, what = PermissionDenied, f"not allowed to {verb}"
        hint = "Check the owner and mode of the file and its folder, and whether it is mounted read-only."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind, what, hint = StorageFull, f"no room to {verb}", "Free space (or raise the quota) there, then try again."
    return kind(f"{what} {path}: {error.strerror or error}", operation=operation, subject=path, hint=hint)


def make_folder(folder: str, made: list[str]) -> None:
    """Make the folder and what lies above it, each durable before the next; `made` gets those that were not there.
    Raises OSError."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    if parent != folder:
        make_folder(parent, made)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        made.append(folder)
    sync_folder(parent)


def remove_made(made: list[str]) -> None:
    """Remove the folders that were made for a store that could not be."""
    for one in reversed(made):
        with suppress(OSError):  # somebody uses it already, and what brought us here says more
            os.rmdir(one)


def sync_folder(folder: str) -> None:
    """Make the names in `folder` durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
