"""Writing a blob into a regular file, each block at its place, by several threads at once."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["UNCACHED_BYTES", "PlacedFile"]

UNCACHED_BYTES = 256 * 1024 * 1024
"""Outputs of at least so many bytes are not kept in the page cache (docs/decisions/0012-page-cache.md). Smaller ones
are: whoever gets a small file mostly opens it next, and its pages cost nobody else theirs."""

_RWF_DONTCACHE = 0x80 if sys.platform == "linux" else 0
"""include/uapi/linux/fs.h: write out at once, and drop the pages when that is done. Python has no name for it yet.
Kernels before 6.14 and file systems without it (tmpfs, network) answer EOPNOTSUPP before they write anything."""


class PlacedFile:
    """An open regular file that nobody else writes. Does not own the descriptor."""

    def __init__(self, fd: int, size: int) -> None:
        """`size`: bytes that will be written in all."""
        self._fd = fd
        self._flags = _RWF_DONTCACHE if size >= UNCACHED_BYTES else 0

    def write(self, data: memoryview, at: int) -> None:
        """Write all of `data` at the offset `at`; on a thread, several at once. Raises OSError."""
        while data:
            flags = self._flags
            try:
                written = os.pwritev(self._fd, [data], at, flags) if flags else os.pwrite(self._fd, data, at)
            except OSError as error:
                if not flags or error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._flags = 0
                continue
            if written == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # no system says so, and no loop may rest on it
            data, at = data[written:], at + written
