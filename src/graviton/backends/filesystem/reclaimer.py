"""`FsBlockReclaimer`: moves blocks to `<root>/trash/<algo>/<hex>-<size>/<moved-at>-<random>` and back, by rename."""

from __future__ import annotations

import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from graviton.backends.filesystem._disk import DirEntry
from graviton.backends.filesystem._names import block_name, parse_block
from graviton.backends.filesystem._reading import read_verified
from graviton.backends.filesystem._scan import scan_pages
from graviton.backends.filesystem.blocks import FsBlockStore
from graviton.backends.filesystem.errors import mapped
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError, NotFound, Unavailable
from graviton.ports.reclaimer import BlockReclaimer, TrashEntry

__all__ = ["FsBlockReclaimer"]

_T = TypeVar("_T")

_ATTEMPTS = 8
"""How often a move makes the folder of its key again when another collector, that emptied it, removes it meanwhile."""


class FsBlockReclaimer(BlockReclaimer):
    """Takes blocks of `store` away; on the same file system, so every step is one atomic rename. Shares its threads."""

    def __init__(self, store: FsBlockStore) -> None:
        self._store = store
        self._disk = store.disk
        self._trash = str(store.config.trash_path)

    async def move_to_trash(self, key: BlockKey, moved_at_ns: int) -> TrashEntry | None:
        entry = TrashEntry.new(key, moved_at_ns)
        moved = await self._run("trash.move", key, lambda: self._move(entry))
        return entry if moved else None

    def _move(self, entry: TrashEntry) -> bool:
        """Whether there was a block to move. Durable when it returns: the collector removes the record next."""
        key = entry.key
        for _ in range(_ATTEMPTS):
            if not self._is_there(key):
                return False
            target = self._open_trash(key)
            try:
                source = self._disk.open_folder(self._store.folder_path(key.algo))
                try:
                    self._disk.rename(block_name(key), entry.name, source, target)
                    self._disk.fsync(target)  # first: a crash in between leaves two names, never none
                    self._disk.fsync(source)
                    return True
                except FileNotFoundError:
                    continue  # moved by another, or the target folder was removed: look again
                finally:
                    self._disk.close(source)
            finally:
                self._disk.close(target)
        raise Unavailable(f"the trash folder of {key.text} keeps vanishing", operation="trash.move", subject=key.text)

    def _is_there(self, key: BlockKey) -> bool:
        try:
            found = self._disk.stat(self._store.block_path(key))
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode):
            raise IntegrityError(
                f"no regular file lies where block {key.text} belongs",
                operation="trash.move",
                subject=key.text,
                hint="Look at what lies there and move it away; the store never makes such entries.",
            )
        return True

    def _open_trash(self, key: BlockKey) -> int:
        path = self._folder(key)
        self._store.folders.forget(path)  # such folders come and go: another one may have the same inode number
        return self._store.folders.open(path)

    async def put_back(self, entry: TrashEntry) -> bool:
        return await self._run("trash.put_back", entry.key, lambda: self._put_back(entry))

    def _put_back(self, entry: TrashEntry) -> bool:
        key = entry.key
        try:
            # A good block may lie there by now; a copy that rotted in the trash must not replace it.
            self._read(entry)
        except NotFound:
            return False
        source = self._disk.open_folder(self._folder(key))
        try:
            target = self._store.folders.open(self._store.folder_path(key.algo))
            try:
                self._disk.rename(entry.name, block_name(key), source, target)
                self._disk.fsync(target)
                self._disk.fsync(source)
            except FileNotFoundError:
                return False
            finally:
                self._disk.close(target)
        finally:
            self._disk.close(source)
        self._remove_if_empty(key)
        return True

    async def trash_entries(self, key: BlockKey | None = None) -> AsyncIterator[TrashEntry]:
        self._store.pool.check_usable()
        if key is not None:
            for entry in await self._entries_of(key):
                yield entry
            return
        for algo in HashAlgo:
            async with aclosing(self._keys(algo)) as keys:
                async for found in keys:
                    for entry in await self._entries_of(found):
                        yield entry

    async def _entries_of(self, key: BlockKey) -> list[TrashEntry]:
        def pick(entry: DirEntry) -> TrashEntry | None:
            return TrashEntry.parse(key, entry.name) if entry.is_file(follow_symlinks=False) else None

        pages = scan_pages(self._disk, self._store.pool, self._folder(key), "trash.entries", pick)
        async with aclosing(pages):
            return sorted([entry async for entry in pages], key=lambda entry: (entry.moved_at_ns, entry.token))

    async def _keys(self, algo: HashAlgo) -> AsyncGenerator[BlockKey, None]:
        def pick(entry: DirEntry) -> BlockKey | None:
            return parse_block(algo, entry.name) if entry.is_dir(follow_symlinks=False) else None

        pages = scan_pages(self._disk, self._store.pool, f"{self._trash}/{algo.value}", "trash.entries", pick)
        async with aclosing(pages):
            async for key in pages:
                yield key

    async def read_trash(self, entry: TrashEntry) -> bytes:
        return await self._run("trash.read", entry.key, lambda: self._read(entry))

    def _read(self, entry: TrashEntry) -> bytes:
        path = f"{self._folder(entry.key)}/{entry.name}"
        missing = f"block {entry.key.text} is not in the trash under {entry.name}"
        return read_verified(self._disk, path, entry.key, "trash.read", missing)

    async def purge(self, entry: TrashEntry) -> bool:
        return await self._run("trash.purge", entry.key, lambda: self._purge(entry))

    def _purge(self, entry: TrashEntry) -> bool:
        # Not fsynced: after a power cut the entry may be there again and is purged again.
        try:
            folder = self._disk.open_folder(self._folder(entry.key))
        except FileNotFoundError:
            return False
        try:
            self._disk.unlink(entry.name, folder)
        except FileNotFoundError:
            return False
        finally:
            self._disk.close(folder)
        self._remove_if_empty(entry.key)
        return True

    def _remove_if_empty(self, key: BlockKey) -> None:
        with suppress(OSError):  # best effort: an empty folder harms nobody, and ENOTEMPTY is the usual answer
            self._disk.rmdir(self._folder(key))

    def _folder(self, key: BlockKey) -> str:
        return f"{self._trash}/{key.algo.value}/{block_name(key)}"

    async def _run(self, operation: str, key: BlockKey, step: Callable[[], _T]) -> _T:
        def mapped_step(flag: object) -> _T:
            with mapped(operation, key.text):
                return step()

        return await self._store.pool.run(mapped_step)
