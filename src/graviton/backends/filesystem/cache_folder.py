"""`FsCacheFolder`: the files of a block cache. Names and why nothing is fsynced: docs/caching.md."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from graviton.backends.filesystem._batch import write_whole
from graviton.backends.filesystem._disk import FOLDER_MODE, Disk
from graviton.backends.filesystem._folder_lock import FolderLock
from graviton.backends.filesystem._names import block_name, parse_block
from graviton.backends.filesystem._reading import read_verified
from graviton.backends.filesystem.errors import mapped
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.errors import GravitonError, NotFound

__all__ = ["FsCacheFolder"]

_SUFFIX = ".cached"
"""No block of a store has such a name: what the cache removes can only be the cache's, whatever folder it was given."""

_TEMP = re.compile(r"\.fill-[0-9a-f]{24}")
_TOKEN_BYTES = 12


class FsCacheFolder:
    """See `CacheFolder`, in `root`. Making one touches nothing."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = Path(root).absolute()
        self.index_path = self.root / "block-index.sqlite"
        """Where the index belongs."""
        self._blocks = str(self.root / "blocks")
        self._lock = FolderLock(str(self.root / "lock"))
        self._disk = Disk() if disk is None else disk

    def read(self, key: BlockKey) -> bytes | None:
        """See `CacheFolder.read`."""
        try:
            return read_verified(self._disk, self.path(key), key, "cache.get", "it is not cached")
        except NotFound:
            return None

    def holds(self, key: BlockKey) -> bool:
        """See `CacheFolder.holds`."""
        with mapped("cache.look", key):
            try:
                return stat.S_ISREG(self._disk.stat(self.path(key)).st_mode)
            except FileNotFoundError:
                return False

    def path(self, key: BlockKey) -> str:
        """Where an entry lies, or would."""
        return f"{self._blocks}/{key.algo.value}/{block_name(key)}{_SUFFIX}"

    def own(self) -> bool:
        """See `CacheFolder.own`. The lock is `flock`, so it ends with the process however that ends."""
        with mapped("cache.open", str(self.root)):
            os.makedirs(self.root, FOLDER_MODE, exist_ok=True)
            return self._lock.take()

    def disown(self) -> None:
        """See `CacheFolder.disown`."""
        self._lock.give_back()

    def keeper(self) -> str | None:
        """The process that owns the folder, as text for people; None if nobody does. Changes nothing."""
        with mapped("cache.look", str(self.root)):
            return self._lock.holder()

    def scan(self, trouble: Callable[[GravitonError], object]) -> Iterator[BlockKey]:
        """See `CacheFolder.scan`."""
        for algo in HashAlgo:
            path = f"{self._blocks}/{algo.value}"
            with mapped("cache.scan", path):
                try:
                    entries = self._disk.scandir(path)
                except FileNotFoundError:
                    continue
                with entries as found:
                    for entry in found:
                        if not entry.is_file(follow_symlinks=False):
                            continue  # nothing of ours, whatever its name
                        if key := _parse(algo, entry.name):
                            yield key
                        elif _TEMP.fullmatch(entry.name):
                            try:
                                self._unlink(f"{path}/{entry.name}", entry.name)
                            except GravitonError as error:
                                trouble(error)

    def look(self) -> tuple[int, int]:
        """How many entries there are, and their bytes. Reads names alone, and is no business of the owner alone."""
        count = size = 0
        for algo in HashAlgo:
            path = f"{self._blocks}/{algo.value}"
            with mapped("cache.look", path):
                try:
                    names = os.listdir(path)
                except FileNotFoundError:
                    continue
            for key in filter(None, (_parse(algo, name) for name in names)):
                count, size = count + 1, size + key.size
        return count, size

    def write(self, key: BlockKey, data: bytes) -> None:
        """See `CacheFolder.write`."""
        with mapped("cache.put", key):
            folder = self._open_folder(key.algo)
            try:
                self._write(folder, key, data)
            finally:
                self._disk.close(folder)

    def _write(self, folder: int, key: BlockKey, data: bytes) -> None:
        temp = f".fill-{secrets.token_hex(_TOKEN_BYTES)}"
        fd = self._disk.create(temp, folder)
        try:
            try:
                write_whole(self._disk, fd, data, key)
            finally:
                self._disk.close(fd)
            self._disk.rename(temp, block_name(key) + _SUFFIX, folder, folder)
        except BaseException as error:
            try:
                self._disk.unlink(temp, folder)
            except OSError as problem:
                error.add_note(f"the unfinished file {temp} could not be removed: {problem}")
            raise

    def _open_folder(self, algo: HashAlgo) -> int:
        """Made on the way if it is missing: somebody may remove all of a cache at any time."""
        path = f"{self._blocks}/{algo.value}"
        try:
            return self._disk.open_folder(path)
        except FileNotFoundError:
            for missing in (str(self.root), self._blocks, path):
                try:
                    self._disk.mkdir(missing)
                except FileExistsError:
                    continue
            return self._disk.open_folder(path)

    def remove(self, key: BlockKey) -> None:
        """See `CacheFolder.remove`."""
        self._unlink(self.path(key), key)

    def _unlink(self, path: str, subject: object) -> None:
        with mapped("cache.remove", subject):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass


def _parse(algo: HashAlgo, name: str) -> BlockKey | None:
    return parse_block(algo, name.removesuffix(_SUFFIX)) if name.endswith(_SUFFIX) else None
