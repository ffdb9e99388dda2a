"""One object on its way: a temporary file until it is durable and complete, then a rename. All on workers."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from graviton.backends.filesystem._batch import write_whole
from graviton.backends.filesystem._names import TempNames
from graviton.backends.filesystem._object_names import ObjectName
from graviton.backends.filesystem._object_tree import ObjectTree
from graviton.core.buffers import Buffer

__all__ = ["Upload", "contiguous"]

_ATTEMPTS: Final = 8
"""How often folders are made again when a delete that found them empty removes them at the same moment."""
_COPY_BYTES: Final = 64 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024
_NO_COPY: Final = frozenset({errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What copy_file_range answers where it does not work; plain reading and writing does."""


class Upload:
    """Raises OSError; whoever makes one ends it with `finish` or `abort`."""

    def __init__(self, tree: ObjectTree, name: ObjectName, subject: str) -> None:
        self._tree = tree
        self._disk = tree.disk
        self._name = name
        self._subject = subject
        self._temp = TempNames("objects").next()
        self._folder = -1
        self._fd = -1
        self._create()

    def _create(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._folder = self._tree.make(self._name.folders)
                self._fd = self._disk.create(self._temp, self._folder)
                return
            except FileNotFoundError:
                if self._folder >= 0:
                    self._disk.close(self._folder)
                    self._folder = -1
                if attempt == _ATTEMPTS - 1:
                    raise
            except BaseException:
                self.abort()
                raise

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        if len(data):
            write_whole(self._disk, self._fd, data, self._subject)

    def copy_from(self, source: int, size: int) -> None:
        """Append `size` bytes of another file from its position; shared by the file system where it can."""
        done = 0
        while done < size:
            try:
                copied = self._disk.copy(source, self._fd, min(_COPY_BYTES, size - done))
            except OSError as error:
                if error.errno not in _NO_COPY:
                    raise
                break
            if copied == 0:
                break
            done += copied
        while done < size:
            piece = self._disk.read(source, min(_READ_BYTES, size - done))
            if not piece:
                raise OSError(errno.EIO, "the source ended early")
            self.write(piece)
            done += len(piece)

    def finish(self) -> os.stat_result:
        """Make the object durable and visible; its stat."""
        self._disk.fsync(self._fd)
        found = self._disk.fstat(self._fd)
        fd, self._fd = self._fd, -1
        self._disk.close(fd)
        self._disk.rename(self._temp, self._name.file, self._folder, self._folder)
        self._temp = ""
        self._disk.fsync(self._folder)
        self._tree.sync_path(self._name.folders)
        folder, self._folder = self._folder, -1
        self._disk.close(folder)
        return found

    def abort(self) -> None:
        """Leave nothing behind. Harmless after `finish`."""
        if self._fd >= 0:
            with suppress(OSError):  # the bytes do not matter any more
                self._disk.close(self._fd)
            self._fd = -1
        if self._folder >= 0:
            if self._temp:
                with suppress(OSError):  # best effort: the name says that it is a leftover
                    self._disk.unlink(self._temp, self._folder)
            with suppress(OSError):
                self._disk.close(self._folder)
            self._folder = -1
            self._tree.prune(self._name.folders)


def contiguous(piece: Buffer) -> Buffer:
    """`piece`, or a copy of it if it has gaps in memory or other items than bytes."""
    if isinstance(piece, memoryview) and not (piece.c_contiguous and piece.format == "B" and piece.ndim == 1):
        return piece.tobytes()
    return piece
