"""The system calls of this backend, one method each: the seam at which tests make them fail, wait or stop short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from graviton.core.buffers import Buffer

__all__ = ["DirEntry", "Disk"]

FILE_MODE = 0o400
"""Blocks are never changed in place; replacing one is a rename, which asks the folder for permission."""
FOLDER_MODE = 0o700

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# O_NONBLOCK: opening a FIFO that somebody put at a block's name must not hang; it means nothing for regular files.
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


class DirEntry(Protocol):
    """What is used of `os.DirEntry`."""

    @property
    def name(self) -> str: ...
    def is_file(self, *, follow_symlinks: bool = True) -> bool: ...
    def is_dir(self, *, follow_symlinks: bool = True) -> bool: ...


class Disk:
    """The real system. All methods block and raise OSError; `folder` is an open folder that `name` is relative to."""

    def open_folder(self, path: str, folder: int | None = None, *, follow: bool = True) -> int:
        """A descriptor of a folder, for names relative to it and for fsync."""
        return os.open(path, _FOLDER if follow else _FOLDER | os.O_NOFOLLOW, dir_fd=folder)

    def create(self, name: str | bytes, folder: int, mode: int = FILE_MODE) -> int:
        """A descriptor of a new file, for writing. Raises FileExistsError."""
        return os.open(name, _CREATE, mode, dir_fd=folder)

    def open(self, name: str | bytes, folder: int | None = None) -> int:
        """A descriptor for reading; a link is an error (ELOOP)."""
        return os.open(name, _READ, dir_fd=folder)

    def write(self, fd: int, data: Buffer) -> int:
        """Bytes written, which may be fewer than asked."""
        return os.write(fd, data)

    def read(self, fd: int, size: int) -> bytes:
        """At most `size` bytes from the position of `fd`, in one fresh object."""
        return os.read(fd, size)

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`."""
        return os.pread(fd, size, offset)

    def copy(self, source: int, target: int, size: int) -> int:
        """Bytes copied between the positions of two files, by the file system itself: shared where it can share."""
        return os.copy_file_range(source, target, size)

    def write_back(self, fd: int) -> None:
        """Let the kernel begin to write the file out, without waiting.

        POSIX_FADV_DONTNEED does that on Linux (mm/fadvise.c: __filemap_fdatawrite_range with WB_SYNC_NONE) before it
        drops clean pages, of which a file just written has none. It is a hint: durability comes from fsync only.
        """
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def fsync(self, fd: int) -> None:
        """Make a file or folder durable."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def rename(self, source: str | bytes, target: str | bytes, source_folder: int, target_folder: int) -> None:
        """Atomically give a file another name, replacing what is there."""
        os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)

    def unlink(self, name: str | bytes, folder: int) -> None:
        """Remove a file's name."""
        os.unlink(name, dir_fd=folder)

    def stat(self, name: str | bytes, folder: int | None = None) -> os.stat_result:
        """What lies under a name; links are not followed."""
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def fstat(self, fd: int) -> os.stat_result:
        """What is open."""
        return os.fstat(fd)

    def mkdir(self, name: str | bytes, folder: int | None = None) -> None:
        """Create a folder. Raises FileExistsError."""
        os.mkdir(name, FOLDER_MODE, dir_fd=folder)

    def rmdir(self, name: str | bytes, folder: int | None = None) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=folder)

    def scandir(self, where: str | int) -> AbstractContextManager[Iterator[DirEntry]]:
        """The entries of a folder, in no order."""
        return os.scandir(where)
