"""Trees on disk as values, and a store in memory to put them into."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.listing import ListingEntry
from graviton.errors import GravitonError
from graviton.ports.blobs import BlobWriteResult

__all__ = ["Told", "memory_store", "snapshot"]


def memory_store() -> Store:
    return Store(Settings(blob_backend="memory", metadata="memory"))


class Told:
    """`TreeEvents` and `RestoreEvents` that remember, with paths relative to a root."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)
        self.stored_paths: list[str] = []
        self.skips: dict[str, str] = {}
        self.changes: list[str] = []
        self.failures: dict[str, GravitonError] = {}
        self.restored_paths: list[str] = []
        self.total_bytes: int | None = None

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self._root)

    def stored(self, path: str, result: BlobWriteResult) -> None:
        self.stored_paths.append(self._name(path))

    def skipped(self, path: str, why: str) -> None:
        self.skips[self._name(path)] = why

    def changed(self, path: str) -> None:
        self.changes.append(self._name(path))

    def failed(self, path: str, error: GravitonError) -> None:
        self.failures[self._name(path)] = error

    def checked(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes

    def restored(self, path: str, entry: ListingEntry) -> None:
        self.restored_paths.append(self._name(path))


def snapshot(root: Path) -> dict[bytes, tuple[str, int, int, bytes]]:
    """Everything below `root`: type, mode, time, content, by relative path."""
    found: dict[bytes, tuple[str, int, int, bytes]] = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            mode = stat.S_IMODE(info.st_mode)
            relative = os.path.relpath(path, top)
            if stat.S_ISLNK(info.st_mode):
                found[relative] = ("link", mode, info.st_mtime_ns, os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                found[relative] = ("folder", mode, info.st_mtime_ns, b"")
            else:
                with open(path, "rb") as file:
                    found[relative] = ("file", mode, info.st_mtime_ns, file.read())
    return found
