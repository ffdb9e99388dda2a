"""The folders of an object store: entered one by one without following links, made durable, listed in path order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from heapq import nsmallest
from typing import Final, NamedTuple

from graviton.backends.filesystem._disk import Disk
from graviton.backends.filesystem._folders import DurableFolders
from graviton.backends.filesystem._object_names import OBJECT, sort_key

__all__ = ["Found", "ObjectTree"]

_NAMES_IN_MEMORY: Final = 4096
"""Names kept per folder while listing; a folder with more is looked through again for the next ones."""


class Found(NamedTuple):
    """An object on disk."""

    path: bytes
    """UTF-8 of the object's path."""
    size: int
    modified_ns: int


class _Frame:
    """One folder on the way of a listing."""

    __slots__ = ("folders", "last", "more", "names", "start")

    def __init__(self, folders: tuple[bytes, ...], start: bytes) -> None:
        self.folders = folders
        self.start = start  # of all paths in here
        self.names: list[tuple[bytes, bytes, os.stat_result | None]] = []  # reversed: the next one is popped
        self.last: bytes | None = None
        self.more = True


class ObjectTree:
    """All methods block and raise OSError."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk = disk
        self._root = root
        self._durable = DurableFolders(disk, root)

    @contextmanager
    def folder(self, folders: tuple[bytes, ...]) -> Iterator[int]:
        """A descriptor of a folder below the root. Raises FileNotFoundError; a link is NotADirectoryError."""
        fd = self.disk.open_folder(self._root)
        try:
            for name in folders:
                outer, fd = fd, self._enter(fd, name)
                self.disk.close(outer)
            yield fd
        finally:
            self.disk.close(fd)

    def make(self, folders: tuple[bytes, ...]) -> int:
        """A descriptor of a folder, created where missing; `sync_path` makes the names durable."""
        fd = self._durable.open(self._root)
        try:
            for name in folders:
                with suppress(FileExistsError):
                    self.disk.mkdir(name, fd)
                outer, fd = fd, self._enter(fd, name)
                self.disk.close(outer)
        except BaseException:
            self.disk.close(fd)
            raise
        return fd

    def sync_path(self, folders: tuple[bytes, ...]) -> None:
        """Make the names of these folders durable, whoever created them."""
        for depth in reversed(range(len(folders))):
            with self.folder(folders[:depth]) as fd:
                self.disk.fsync(fd)

    def prune(self, folders: tuple[bytes, ...]) -> None:
        """Remove these folders from the inside out as long as they are empty; best effort."""
        with suppress(OSError):
            for depth in reversed(range(len(folders))):
                with self.folder(folders[:depth]) as fd:
                    self.disk.rmdir(folders[depth], fd)

    def _enter(self, folder: int, name: bytes) -> int:
        return self.disk.open_folder(os.fsdecode(name), folder, follow=False)

    def walk(self, prefix: bytes) -> Iterator[Found]:
        """Objects whose path begins with `prefix`, in the order of bytes. Holds no descriptor between two of them."""
        stack = [_Frame((), b"")]
        while stack:
            frame = stack[-1]
            if not frame.names and frame.more:
                self._fill(frame, prefix)
            if not frame.names:
                stack.pop()
                continue
            key, name, found = frame.names.pop()
            path = frame.start + key
            if found is None:
                stack.append(_Frame((*frame.folders, name), path))
            else:
                yield Found(path, found.st_size, found.st_mtime_ns)

    def _fill(self, frame: _Frame, prefix: bytes) -> None:
        """Read the next names of a folder, and the stat of the objects among them."""
        try:
            with self.folder(frame.folders) as fd:
                with self.disk.scandir(fd) as entries:
                    named = ((sort_key(name), name) for name in (os.fsencode(entry.name) for entry in entries))
                    wanted = ((key, name) for key, name in named if key is not None and _fits(frame, key, name, prefix))
                    smallest = nsmallest(_NAMES_IN_MEMORY, wanted)
                frame.more = len(smallest) == _NAMES_IN_MEMORY
                if smallest:
                    frame.last = smallest[-1][0]
                for key, name in reversed(smallest):
                    self._add(frame, fd, key, name)
        except FileNotFoundError:
            frame.more = False  # removed meanwhile

    def _add(self, frame: _Frame, fd: int, key: bytes, name: bytes) -> None:
        if not name.startswith(OBJECT):
            frame.names.append((key, name, None))
            return
        with suppress(FileNotFoundError):  # deleted meanwhile
            found = self.disk.stat(name, fd)
            if stat.S_ISREG(found.st_mode):
                frame.names.append((key, name, found))


def _fits(frame: _Frame, key: bytes, name: bytes, prefix: bytes) -> bool:
    if frame.last is not None and key <= frame.last:
        return False
    path = frame.start + key
    return path.startswith(prefix) or (not name.startswith(OBJECT) and prefix.startswith(path))
