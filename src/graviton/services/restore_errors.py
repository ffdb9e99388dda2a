"""What the operating system says while a tree is restored, as errors of ours."""

from __future__ import annotations

import errno
import os

from graviton.errors import AlreadyExists, GravitonError, InvalidInput, PermissionDenied, StorageFull, Unavailable

__all__ = ["restore_error"]


def restore_error(error: OSError, shown: str) -> GravitonError:
    """What keeps `shown`, a path as people type it, from being restored; with what to do about it."""
    if error.errno in (errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY):
        return AlreadyExists(
            f"{shown} exists and is not what the listing has",
            operation="restore",
            subject=shown,
            hint="Restore into an empty folder, or replace files with --force.",
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Make room there and restore again: what is there already and right is kept."
        return StorageFull(f"no room for {shown}", operation="restore", subject=shown, hint=hint)
    reason = f"cannot restore {shown}: {os.strerror(error.errno or 0)}"
    kind: type[GravitonError] = Unavailable
    hint = "Look at the system log and the health of the disk; then try again."
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        reason = f"cannot restore {shown}: something on the way to it is not a folder"
        kind, hint = AlreadyExists, "Restore into an empty folder."
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        kind, hint = PermissionDenied, "Check the owner and mode of the folder, or restore into another."
    elif error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
        kind, hint = InvalidInput, "That file system cannot have such a name: restore to another."
    return kind(reason, operation="restore", subject=shown, hint=hint)
