"""Folders that are durable before anything in them is relied on."""

from __future__ import annotations

import os

from graviton.backends.filesystem._disk import Disk

__all__ = ["DurableFolders"]


class DurableFolders:
    """Opens folders below a root, creating them on the way.

    A folder is only as durable as its name in its parent. Whoever created it, perhaps another process a moment ago, may
    not have fsynced the parent yet; so each process does that itself, once per folder, before it first relies on it.
    Threads may share one object: doing it twice is harmless.
    """

    def __init__(self, disk: Disk, root: str) -> None:
        self._disk = disk
        self._root = root
        self._durable: set[tuple[str, int, int]] = set()

    def open(self, path: str) -> int:
        """A descriptor of the folder `path`, created (0700) if missing, its whole chain of names durable.

        `path` is the root or lies below it. Raises OSError.
        """
        try:
            fd = self._disk.open_folder(path)
        except FileNotFoundError:
            self._create(path)
            fd = self._disk.open_folder(path)
        try:
            stat = self._disk.fstat(fd)
            mark = (path, stat.st_dev, stat.st_ino)  # a folder removed and made again is another one
            if mark not in self._durable:
                self._sync_chain(path)
                self._durable.add(mark)
        except BaseException:
            self._disk.close(fd)
            raise
        return fd

    def forget(self, path: str) -> None:
        """Do the whole work again for `path`: after an fsync there failed, or when others remove such folders."""
        self._durable = {mark for mark in self._durable if mark[0] != path}

    def _create(self, path: str) -> None:
        parent = os.path.dirname(path)
        try:
            self._disk.mkdir(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            if parent == path:
                raise
            self._create(parent)
            try:
                self._disk.mkdir(path)
            except FileExistsError:
                return
        if len(path) <= len(self._root):
            self.sync(parent)  # the root or above it: only what we created ourselves is ours to sync

    def _sync_chain(self, path: str) -> None:
        while len(path) > len(self._root):
            path = os.path.dirname(path)
            self.sync(path)
        try:
            fd = self._disk.open_folder(os.path.dirname(self._root))
        except PermissionError:
            return  # a home we may enter but not read: whoever gave us the root made it durable
        self._sync_and_close(fd)

    def sync(self, path: str) -> None:
        """Make the names in the folder `path` durable."""
        self._sync_and_close(self._disk.open_folder(path))

    def _sync_and_close(self, fd: int) -> None:
        try:
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
