"""Writing a batch of blocks: all of them durable, or an error and no temporary file left.

The order is what keeps the promise; each step relies on the one before:
1. write the bytes to temporary files in the folder of the blocks (many small ones by one call of the kernel),
2. make the bytes durable (fsync each, or one syncfs),
3. rename: only now can anybody see the block, and what they see is whole and durable,
4. fsync the folder: only now are the names durable, and only now is the put acknowledged.

A file whose fsync failed is never looked at again: the kernel reports a write error once and then forgets it, so a
second fsync would succeed over lost bytes. The file is removed and the put fails.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from graviton.backends.filesystem._disk import FILE_MODE, Disk
from graviton.backends.filesystem._names import TempNames, block_name
from graviton.backends.filesystem._spread import spread
from graviton.backends.filesystem.config import FsConfig
from graviton.backends.filesystem.errors import mapped, translate
from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.core.buffers import Buffer
from graviton.core.files import FileBatches, FilesError, write_all
from graviton.core.keys import BlockKey
from graviton.errors import IntegrityError, Unavailable
from graviton.ports.blocks import CanonicalBlock

__all__ = ["BatchWriter", "Syncfs", "write_whole"]

Syncfs = Callable[[int], None]
"""Makes everything written to the file system of a descriptor durable; raises OSError."""

OPERATION = "blocks.put"


class _File:
    """One block on its way: its temporary name while there is one."""

    __slots__ = ("block", "fd", "name", "temp")

    def __init__(self, block: CanonicalBlock) -> None:
        self.block = block
        self.name = block_name(block.key)
        self.temp = ""
        self.fd = -1


class BatchWriter(NamedTuple):
    """What writing needs; one per store, shared by its threads."""

    disk: Disk
    pool: WorkerPool
    config: FsConfig
    batches: FileBatches
    """Writes the files of a small batch and renames all; everything else goes through `disk`."""
    syncfs: Syncfs | None

    def write(self, blocks: Sequence[CanonicalBlock], folder: int, names: TempNames, flag: CancelFlag) -> None:
        """Make distinct `blocks` of one folder durable under their names; the folder is fsynced by the caller.

        On the worker. Raises our errors, and CallCancelled.
        """
        files = [_File(block) for block in blocks]
        try:
            if len(files) == 1:
                self._write_file(files[0], folder, names, flag)
                self._sync_file(files[0], flag)
            elif self._is_small(blocks):
                self._write_many_small(files, folder, names, flag)
            else:
                self._write_larger(files, folder, names, flag)
            for group in _groups(files, _SLICE):
                flag.check()
                self._publish(group, folder)
        except BaseException as error:
            self._clean_up(files, folder, error)
            raise

    def _is_small(self, blocks: Sequence[CanonicalBlock]) -> bool:
        if self.syncfs is None or len(blocks) < self.config.syncfs_min_files:
            return False
        return sum(block.key.size for block in blocks) <= len(blocks) * self.config.syncfs_max_mean_bytes

    def _write_many_small(self, files: Sequence[_File], folder: int, names: TempNames, flag: CancelFlag) -> None:
        # `folder` was opened before the first write: syncfs reports the errors since its descriptor was opened.
        assert self.syncfs is not None

        def write(group: Sequence[_File]) -> None:
            flag.check()
            self._write_group(group, folder, names)

        spread(self.pool, write, list(_groups(files, _SLICE)), _WRITERS)
        flag.check()
        with mapped(OPERATION, f"{len(files)} blocks"):
            self.syncfs(folder)

    def _write_group(self, group: Sequence[_File], folder: int, names: TempNames) -> None:
        """On an error of the system exactly the files that exist keep a temporary name."""
        for file in group:
            file.temp = names.next()
        payloads = [file.block.payload for file in group]
        try:
            self.batches.write_files(folder, [file.temp for file in group], payloads, FILE_MODE)
        except FilesError as error:
            for file in group[error.made :]:
                file.temp = ""
            raise translate(error, OPERATION, group[error.index].block.key.text) from error

    def _write_larger(self, files: Sequence[_File], folder: int, names: TempNames, flag: CancelFlag) -> None:
        """In groups: begin write-back of each file at once, then wait for them; the disk never idles in between."""
        width = self.config.fsync_workers

        def write(file: _File) -> None:
            self._write_file(file, folder, names, flag)
            with mapped(OPERATION, file.block.key):
                self.disk.write_back(file.fd)

        for group in _groups(files, _OPEN_FILES):
            spread(self.pool, write, group, width)
            spread(self.pool, lambda file: self._sync_file(file, flag), group, width)

    def _write_file(self, file: _File, folder: int, names: TempNames, flag: CancelFlag) -> None:
        flag.check()
        key, payload = file.block
        with mapped(OPERATION, key):
            name = names.next()
            file.fd = self.disk.create(name, folder)
            file.temp = name
            write_whole(self.disk, file.fd, payload, key)

    def _sync_file(self, file: _File, flag: CancelFlag) -> None:
        flag.check()
        with mapped(OPERATION, file.block.key):
            self.disk.fsync(file.fd)
            self._close(file)

    def _close(self, file: _File) -> None:
        fd, file.fd = file.fd, -1
        with mapped(OPERATION, file.block.key):  # network file systems report write errors here
            self.disk.close(fd)

    def _publish(self, group: Sequence[_File], folder: int) -> None:
        done = 0
        try:
            self.batches.rename_files(folder, [file.temp for file in group], [file.name for file in group])
            done = len(group)
        except FilesError as error:
            done = error.index
            raise translate(error, OPERATION, group[done].block.key.text) from error
        finally:
            for file in group[:done]:
                file.temp = ""

    def _clean_up(self, files: Sequence[_File], folder: int, error: BaseException) -> None:
        """Close and remove what is left; failures are noted on `error`, garbage collection removes such files later."""
        for file in files:
            try:
                if file.fd >= 0:
                    fd, file.fd = file.fd, -1
                    self.disk.close(fd)
            except OSError as problem:
                error.add_note(f"closing {file.temp}: {problem}")
            try:
                if file.temp:
                    self.disk.unlink(file.temp, folder)
            except OSError as problem:
                error.add_note(f"the temporary file {file.temp} could not be removed: {problem}")

    def is_stored(self, key: BlockKey, folder: int) -> bool:
        """Whether a regular file of the right size lies under `key`; whatever else lies there will be replaced."""
        with mapped(OPERATION, key):
            try:
                found = self.disk.stat(block_name(key), folder)
            except FileNotFoundError:
                return False
        if stat.S_ISDIR(found.st_mode):
            raise IntegrityError(
                f"a folder lies where block {key.text} belongs",
                operation=OPERATION,
                subject=key.text,
                hint="Look at what lies there and move it away; the store never makes such entries.",
            )
        return stat.S_ISREG(found.st_mode) and found.st_size == key.size


_SLICE = 256
"""Files per call of a small batch, some 10 ms: between the calls cancellation is noticed, and only there is the GIL
needed. Beside a thread that computes in Python each time costs its switch interval, 5 ms."""

_WRITERS = 2
"""Threads that write one small batch, if so many are free: on ext4 two take 14 us per file instead of 21, as the bytes
need no lock of the folder. Renames need it all the time and gain nothing (benchmarks/filesystem/README.md)."""

_OPEN_FILES = 64
"""Files open at once per batch of larger blocks: enough to keep the disk busy, far below the usual limit of 1,024."""


def _groups(files: Sequence[_File], size: int) -> Iterator[Sequence[_File]]:
    return (files[start : start + size] for start in range(0, len(files), size))


def write_whole(disk: Disk, fd: int, data: Buffer, subject: object) -> None:
    """Write all of `data`, however few bytes each call takes. Raises OSError; Unavailable if nothing is taken."""
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    written = write_all(disk.write, fd, data)
    if written < size:
        raise Unavailable(f"writing {subject} stopped after {written} of {size} bytes", operation=OPERATION)
