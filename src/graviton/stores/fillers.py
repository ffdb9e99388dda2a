"""Where the bytes of a put come from: each kind of source as something that fills memory.

A filler is the only place that knows its kind. It is used by one task at a time and closed once.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import AsyncIterable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.pieces import AsyncPieceFiller, Filler, MemoryFiller, PieceFiller, pour
from graviton.concurrency.pipes import wait_readable
from graviton.core.buffers import Buffer, as_bytes, memory_of
from graviton.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from graviton.ports.blobs import BlobSource

__all__ = ["open_filler"]


async def open_filler(source: BlobSource, pool: WorkerPool, *, start: int = 0) -> Filler:
    """The filler of any source but `bytes`. Only what cannot wait for others (memory, a regular file) uses `pool`.
    The file of a path is read from byte `start` on. Raises InvalidInput, NotFound, PermissionDenied, Unavailable."""
    view = memory_of(source)
    if view is not None:
        return MemoryFiller(as_bytes(view), pool)
    if isinstance(source, os.PathLike):
        return await _open_path(Path(source), pool, start)
    if isinstance(source, AsyncIterable):
        return AsyncPieceFiller(source)
    if hasattr(source, "read"):
        return _open_file(source, pool)  # type: ignore[arg-type]  # what has `read` is taken for a file
    if isinstance(source, Iterable) and not isinstance(source, str):
        return PieceFiller(iter(cast(Iterable[Buffer], source)), _own_thread())
    raise InvalidInput(
        f"cannot put a {type(source).__name__}",
        operation="put",
        hint="Give bytes, a pathlib.Path, a binary file object, or an iterable of bytes.",
    )


async def _open_path(path: Path, pool: WorkerPool, start: int) -> Filler:
    filler = _FdFiller(pool, str(path), owned=True)
    try:
        await in_thread(pool, filler.open, path, start)
    except BaseException:  # cancelled, it may be open
        await filler.aclose()
        raise
    return filler


def _open_file(file: BinaryIO, pool: WorkerPool) -> Filler:
    """A raw file, in front of which nothing is buffered, or any other object."""
    if isinstance(file, io.FileIO):
        info = os.fstat(file.fileno())
        regular = stat.S_ISREG(info.st_mode)
        filler = _FdFiller(pool if regular else _own_thread(), str(getattr(file, "name", "")), owned=False)
        filler.use(file, info.st_size if regular else None)
        return filler
    return _FileFiller(file, _own_thread())


def _own_thread() -> WorkerPool:
    return WorkerPool(1, "source")


class _FdFiller:
    """A file descriptor, read on a thread; a pipe or terminal in slices, so that cancelling ends the wait."""

    def __init__(self, pool: WorkerPool, name: str, owned: bool) -> None:
        self.size_hint: int | None = None
        self._fd = -1
        self._file: io.FileIO | None = None
        self._pool, self._name, self._owned = pool, name, owned
        self._regular = True

    def use(self, file: io.FileIO, size: int | None) -> None:
        """Read from `file`; `size` is None where it is no regular one."""
        self._file, self._fd = file, file.fileno()
        self.size_hint, self._regular = size, size is not None

    def open(self, path: Path, start: int) -> None:
        """On a thread: open a regular file at byte `start`, which `aclose` closes again."""
        try:
            # Without blocking: a FIFO without a writer must not hang here.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            info = os.fstat(self._fd)
        except OSError as error:
            raise _read_error(error, self._name) from error
        if not stat.S_ISREG(info.st_mode):
            kind = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
            raise InvalidInput(f"{path} is {kind}", operation="put", subject=self._name)
        self.size_hint = max(0, info.st_size - start)
        if start:
            os.lseek(self._fd, start, os.SEEK_SET)

    async def fill(self, memory: memoryview) -> int:
        return await self._pool.run(partial(self._read, memory))

    def _read(self, memory: memoryview, flag: CancelFlag) -> int:
        filled = 0
        try:
            while filled < len(memory):
                if not self._regular and not wait_readable(self._fd, flag):
                    break
                count = self._read_some(memory[filled:])
                if count == 0:
                    break
                filled += count
        except OSError as error:
            raise _read_error(error, self._name) from error
        return filled

    def _read_some(self, memory: memoryview) -> int:
        """Raises OSError, Unavailable."""
        if self._file is None:
            return os.readv(self._fd, [memory])
        try:
            count = self._file.readinto(memory)  # not by its number: it may count, and once closed it has none
        except ValueError as error:
            raise Unavailable("the source was closed while it was read", operation="put") from error
        if count is None:
            raise _would_block()
        return count

    async def aclose(self) -> None:
        if self._owned and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not self._regular:
            self._pool.shutdown()


class _FileFiller:
    """Any binary file object, through its own methods, on a thread of its own."""

    size_hint: int | None = None

    def __init__(self, file: BinaryIO, thread: WorkerPool) -> None:
        self._file, self._thread = file, thread

    async def fill(self, memory: memoryview) -> int:
        return await in_thread(self._thread, self._read, memory)

    def _read(self, memory: memoryview) -> int:
        filled = 0
        while filled < len(memory):
            try:
                piece = self._file.read(len(memory) - filled)
            except OSError as error:
                raise _read_error(error, str(getattr(self._file, "name", ""))) from error
            if piece is None:  # a non-blocking file without data now: not its end
                raise _would_block()
            data = as_bytes(piece)
            if not data:
                break
            if len(data) > len(memory) - filled:
                raise InvalidInput("the source gave more bytes than it was asked for", operation="put")
            _, filled = pour(data, memory, filled)
        return filled

    async def aclose(self) -> None:
        self._thread.shutdown()


def _would_block() -> Unavailable:
    return Unavailable("the source would block", operation="put", hint="Open it in blocking mode, or give its pieces.")


def _read_error(error: OSError, name: str) -> Exception:
    what = f"cannot read {name or 'the source'}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{name} does not exist", operation="put", subject=name)
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(what, operation="put", subject=name)
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR):
        return InvalidInput(what, operation="put", subject=name)
    return Unavailable(what, operation="put", subject=name)
