"""The write-ahead log as a file: whether it has become long, and writing it again after an error of the disk.

Opening and closing it by hand is harmless, unlike the database file and the index: SQLite has no locks on it. It stays
the same file while a connection is open. Its format is at https://sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import os
from typing import Final

from graviton.backends.sqlite._create import PAGE_BYTES, beside

__all__ = ["Wal"]

_HEADER_BYTES: Final = 32
_FRAME_BYTES: Final = 24 + PAGE_BYTES
_SALT_BYTES: Final = 8
_SALT_IN_HEADER: Final = 16
_SALT_IN_FRAME: Final = 8
_PIECE_BYTES: Final = 1024 * 1024
"""How much is in memory at once while the log is written again."""


class Wal:
    """The log of one database while a connection to it is open."""

    def __init__(self, path: str, checkpoint_pages: int) -> None:
        """`path` is that of the database."""
        self._database = path
        self._step = checkpoint_pages
        self._limit = checkpoint_pages
        self._fd: int | None = None
        self._salt = b""

    def is_long(self) -> bool:
        """Whether it has more pages than are to be in it before the next checkpoint, whoever wrote them: 2 us.

        SQLite begins it anew at its start without making the file shorter, so the size says nothing. Each beginning
        has its own salt, in the header and in each frame: the log reaches as far as that salt does.
        """
        try:
            if self._fd is None:
                self._fd = os.open(beside(self._database, "-wal"), os.O_RDONLY | os.O_CLOEXEC)
            salt = os.pread(self._fd, _SALT_BYTES, _SALT_IN_HEADER)
            if salt != self._salt:
                self._salt, self._limit = salt, self._step
            last = _HEADER_BYTES + (self._limit - 1) * _FRAME_BYTES
            return len(salt) == _SALT_BYTES and os.pread(self._fd, _SALT_BYTES, last + _SALT_IN_FRAME) == salt
        except OSError:
            return True  # it cannot be told here: the checkpoint will find out what is wrong

    def back_off(self, pages: int) -> None:
        """A checkpoint was tried when the log had `pages` pages (-1: not known). Unless it begins anew, the next is due
        when as many as usual have come on top: a long read keeps it from beginning anew, and every commit would try."""
        self._limit = (pages if pages >= 0 else self._limit) + self._step

    def write_again(self) -> None:
        """Write and sync all of it, in place, as it is in memory. Nobody else may write to it meanwhile: the caller
        holds the write lock. Readers see no change. Raises OSError."""
        # A new handle: the error was reported to others.
        fd = os.open(beside(self._database, "-wal"), os.O_RDWR | os.O_CLOEXEC)
        try:
            at = 0
            while piece := os.pread(fd, _PIECE_BYTES, at):
                at += os.pwrite(fd, piece, at)
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the handle back; before the connection is closed or after."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
