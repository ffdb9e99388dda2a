"""Reading one stored file: exactly the bytes of its key, or an error."""

from __future__ import annotations

import errno
import stat

from graviton.backends.filesystem._disk import Disk
from graviton.backends.filesystem.errors import mapped
from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError

__all__ = ["read_verified"]

HINT = "Put the same bytes again to repair it; `graviton verify` shows which blobs are concerned."


def read_verified(disk: Disk, path: str, key: BlockKey, operation: str, missing: str) -> bytes:
    """The bytes of `key` that lie at `path`, in one fresh object. On the worker; hashing releases the GIL.

    Raises NotFound (with the text `missing`), IntegrityError, PermissionDenied, Unavailable.
    """
    with mapped(operation, key, missing):
        fd = disk.open(path)
        try:
            found = disk.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise _damaged(key, operation, "no regular file lies at its name")
            if found.st_size != key.size:  # before reading: it may be anything, of any size
                raise _damaged(key, operation, f"its file has {found.st_size} bytes instead of {key.size}")
            try:
                data = _read_exactly(disk, fd, key.size)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # A sector that cannot be read is damage: only so does a put of the same bytes write them again.
                raise _damaged(key, operation, "the disk cannot read it") from error
        finally:
            disk.close(fd)
    if len(data) != key.size:
        raise _damaged(key, operation, f"its file ends after {len(data)} of {key.size} bytes")
    if key.algo.digest(data) != key.digest:
        raise _damaged(key, operation, "its bytes have another digest")
    return data


def _read_exactly(disk: Disk, fd: int, size: int) -> bytes:
    data = disk.read(fd, size)
    if len(data) == size:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and pieces[-1]:
        pieces.append(disk.read(fd, missing))
        missing -= len(pieces[-1])
    return b"".join(pieces)


def _damaged(key: BlockKey, operation: str, what: str) -> IntegrityError:
    return IntegrityError(f"block {key.text} is damaged: {what}", operation=operation, subject=key.text, hint=HINT)
