"""A listing back into a tree. The listing may be hostile: nothing outside the folder given is ever touched.

The listing is read twice: first to check it whole, so that a malformed one changes nothing; then to restore. Small
files are written side by side. A folder gets its mode and time when everything in it is done.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, NamedTuple, Protocol

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.keys import BlobKey
from graviton.core.listing import EntryType, ListingDecoder, ListingEntry
from graviton.core.ranges import Span
from graviton.errors import GravitonError, StorageFull
from graviton.ports.blobs import BlobStore
from graviton.services.output_files import holds_blob, write_file, write_link
from graviton.services.own_places import OwnPlaces, belongs
from graviton.services.restore_errors import restore_error
from graviton.services.safe_folders import SafeFolders

__all__ = ["RestoreEvents", "RestoreResult", "TreeRestore", "read_listing"]

FILES_AT_ONCE: Final = 16
"""Files being written; each draws its blocks from the byte budget."""

LISTING_PIECE_BYTES: Final = 1024 * 1024
"""The listing is read in pieces, each closed before its entries are restored: a reader that stayed open would hold
memory of the byte budget while it waits for others that need some."""

BARRIER_ENTRIES: Final = 1000
"""Entries after which finished folders get their mode and time; bounds what is remembered."""

_KEPT_MODE: Final = 0o1777
"""Not setuid and setgid: a listing does not say who owned the file, and whoever restores may not be that."""


class RestoreEvents(Protocol):
    """Who is told what happens; paths as a person would type them."""

    def checked(self, total_bytes: int) -> None:
        """The listing is well formed, and its files have so many bytes; now the first entry is restored."""
        ...

    def restored(self, path: str, entry: ListingEntry) -> None:
        """An entry is there, as the listing has it."""
        ...

    def failed(self, path: str, error: GravitonError) -> None:
        """An entry could not be restored."""
        ...


class RestoreResult(NamedTuple):
    """What a restore did."""

    entries: int
    files: int
    bytes: int
    """Of files written or found to be right already."""
    failed: int


async def read_listing(store: BlobStore, key: BlobKey) -> AsyncGenerator[ListingEntry, None]:
    """The entries of the listing `key`. Raises NotFound, IntegrityError, and InvalidInput naming the line."""
    decoder = ListingDecoder()
    for start in range(0, key.size, LISTING_PIECE_BYTES) or [0]:
        async with await store.get(key, Span(start, min(key.size, start + LISTING_PIECE_BYTES))) as reader:
            entries = decoder.feed(await reader.read())
        for entry in entries:
            yield entry
    decoder.finish()


class TreeRestore:
    """One tree on its way out. Use once."""

    def __init__(
        self,
        store: BlobStore,
        events: RestoreEvents,
        *,
        force: bool = False,
        keep_set_id: bool = False,
        own: OwnPlaces = OwnPlaces(),
    ) -> None:
        """`force`: files and links that are in the way are replaced (folders never). `keep_set_id`: restore setuid and
        setgid bits too. `own`: where the store itself lies, which no entry may touch."""
        self._store, self._events = store, events
        self._force = force
        self._mode_mask = 0o7777 if keep_set_id else _KEPT_MODE
        self._own = own.names()
        self._open_folders: list[ListingEntry] = []
        self._finished: list[ListingEntry] = []
        self._blocked: list[bytes] = []
        self._writers: set[asyncio.Task[None]] = set()
        self._entries = self._files = self._bytes = self._failed = 0

    async def run(self, key: BlobKey, target: str) -> RestoreResult:
        """Restore the listing `key` into the folder `target`, made if it is not there.

        What cannot be restored is reported, and the rest goes on. Raises InvalidInput for a malformed listing, before
        anything is touched; NotFound, IntegrityError for the listing itself; StorageFull; and what keeps `target` from
        being made.
        """
        total_bytes = 0
        async for entry in read_listing(self._store, key):
            total_bytes += entry.size or 0
        self._events.checked(total_bytes)
        _make_target(target)
        with SafeFolders(target) as folders, WorkerPool(1, "restore") as pool:
            try:
                async with aclosing(read_listing(self._store, key)) as entries:
                    async for entry in entries:
                        await self._restore(entry, folders, pool, target)
                        if self._entries % BARRIER_ENTRIES == 0:
                            await self._barrier(folders, target)
                self._finish_folders(None)
                await self._barrier(folders, target)
            finally:
                await self._stop()
        return RestoreResult(self._entries, self._files, self._bytes, self._failed)

    async def _restore(self, entry: ListingEntry, folders: SafeFolders, pool: WorkerPool, target: str) -> None:
        self._entries += 1
        self._finish_folders(entry.path)
        if self._is_blocked(entry.path):
            self._failed += 1
            return
        try:
            fd, name = folders.parent(entry.path)
            if self._own.has(name, fd):
                self._leave_out(entry, belongs(_shown(target, entry.path), "restore"), target)
                return
            if entry.type is EntryType.FILE:
                await self._start_file(entry, os.dup(fd), name, pool, target)
                return
            if entry.type is EntryType.DIRECTORY:
                self._make_folder(fd, name)
                self._open_folders.append(entry)
            else:
                assert entry.target is not None
                write_link(entry.target, name, fd, entry.mtime_ns, replace=self._force)
        except OSError as error:
            self._fail(entry, error, target)
        else:
            self._events.restored(_shown(target, entry.path), entry)

    def _make_folder(self, parent: int, name: bytes) -> None:
        """A folder that is there already is used. Its mode and time come last."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                return
            if not self._force:
                raise
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)

    async def _start_file(self, entry: ListingEntry, parent: int, name: bytes, pool: WorkerPool, target: str) -> None:
        """Takes `parent` over."""
        while len(self._writers) >= FILES_AT_ONCE:
            try:
                await asyncio.wait(self._writers, return_when=asyncio.FIRST_COMPLETED)
            except BaseException:
                os.close(parent)
                raise
            self._collect()
        self._writers.add(asyncio.ensure_future(self._write(entry, parent, name, pool, target)))

    async def _write(self, entry: ListingEntry, parent: int, name: bytes, pool: WorkerPool, target: str) -> None:
        try:
            await self._write_file(entry, parent, name, pool)
        except OSError as error:
            self._fail(entry, error, target)
        except StorageFull:
            raise
        except GravitonError as error:
            self._leave_out(entry, error, target)
        else:
            self._files += 1
            self._bytes += entry.size or 0
            self._events.restored(_shown(target, entry.path), entry)
        finally:
            os.close(parent)

    async def _write_file(self, entry: ListingEntry, parent: int, name: bytes, pool: WorkerPool) -> None:
        assert entry.key is not None
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is not None:
            if await in_thread(pool, holds_blob, name, entry.key, parent):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
                try:
                    self._dress(fd, entry)
                finally:
                    os.close(fd)
                return
            if not self._force or stat.S_ISDIR(there.st_mode):
                raise FileExistsError(errno.EEXIST, "")
        async with await self._store.get(entry.key) as reader:
            await write_file(reader, name, parent, mode=0o600, finish=lambda fd: self._dress(fd, entry))

    def _dress(self, fd: int, entry: ListingEntry) -> None:
        """Mode and time of a file or folder."""
        os.fchmod(fd, entry.mode & self._mode_mask)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _finish_folders(self, path: bytes | None) -> None:
        """Folders that nothing more can be in, now that the listing has come to `path` (None: to its end)."""
        while self._open_folders and (path is None or _is_past(self._open_folders[-1].path, path)):
            self._finished.append(self._open_folders.pop())
        while self._blocked and (path is None or _is_past(self._blocked[-1], path)):
            self._blocked.pop()

    def _is_blocked(self, path: bytes) -> bool:
        """Whether a folder above could not be made; that was reported once."""
        return any(path.startswith(above + b"/") for above in self._blocked)

    async def _barrier(self, folders: SafeFolders, target: str) -> None:
        """Wait for the files, then give finished folders their mode and time, inner ones first."""
        while self._writers:
            await asyncio.wait(self._writers)
            self._collect()
        finished, self._finished = self._finished, []
        for entry in finished:
            try:
                self._dress(folders.folder(entry.path), entry)
            except OSError as error:
                self._fail(entry, error, target)

    def _collect(self) -> None:
        """Raises what a writer raised."""
        done = {writer for writer in self._writers if writer.done()}
        self._writers -= done
        errors = [error for writer in done if (error := writer.exception()) is not None]
        if errors:
            raise errors[0]

    async def _stop(self) -> None:
        for writer in self._writers:
            writer.cancel()
        if self._writers:
            await asyncio.wait(self._writers)
        for writer in self._writers:
            if not writer.cancelled():
                writer.exception()

    def _fail(self, entry: ListingEntry, error: OSError, target: str) -> None:
        shown = _shown(target, entry.path)
        told = restore_error(error, shown)
        if isinstance(told, StorageFull):
            raise told from error
        self._leave_out(entry, told, target)

    def _leave_out(self, entry: ListingEntry, error: GravitonError, target: str) -> None:
        if entry.type is EntryType.DIRECTORY:
            self._blocked.append(entry.path)
        self._failed += 1
        self._events.failed(_shown(target, entry.path), error)


def _make_target(target: str) -> None:
    try:
        os.makedirs(target, exist_ok=True)
    except OSError as error:
        raise restore_error(error, target) from error


def _shown(target: str, path: bytes) -> str:
    return os.path.join(target, os.fsdecode(path))


def _is_past(folder: bytes, path: bytes) -> bool:
    """Whether neither `path` nor anything after it in the order of a listing can be in `folder`."""
    return not path.startswith(folder) or path[len(folder) : len(folder) + 1] > b"/"
