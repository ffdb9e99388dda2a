"""Files on their way into a store: opened with clear errors, and read at a limited rate.

A file is handed to a put as an `io.FileIO`, which has no buffer of its own between the file and the put.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.pipes import wait_readable
from graviton.constraints.throttle import Throttle
from graviton.errors import GravitonError, InvalidInput, NotFound, PermissionDenied, Unavailable

__all__ = ["CountedFile", "has_changed", "kind_of", "open_regular", "paced", "read_error", "read_up_to"]


class CountedFile(io.FileIO):
    """A file, most likely a pipe, that says how much was read from it."""

    read_bytes = 0
    """By now. Whoever looks while a thread reads sees it grow."""

    def read(self, size: int | None = -1, /) -> bytes | Any:
        """See `io.FileIO`."""
        data = super().read(size)
        self.read_bytes += len(data or b"")
        return data

    def readinto(self, buffer: Any, /) -> int | Any:
        """See `io.FileIO`."""
        count = super().readinto(buffer)
        self.read_bytes += count or 0
        return count


def open_regular(path: str | bytes, *, dir_fd: int | None = None, follow: bool = True, shown: str = "") -> io.FileIO:
    """A regular file, opened for reading; `shown` is its name in errors, if not `path`.

    Raises NotFound, PermissionDenied, InvalidInput (a directory, device, pipe or socket; a link unless `follow`),
    Unavailable.
    """
    # Without O_NONBLOCK a FIFO that nobody writes to would hang here, before anybody knows that it is one.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)

    def opener(name: str | bytes, _: int) -> int:
        return os.open(path, flags, dir_fd=dir_fd)

    name = shown or os.fsdecode(path)
    try:
        file = io.FileIO(name, "rb", opener=opener)
    except IsADirectoryError:
        raise _not_a_file(name, "a directory") from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _not_a_file(name, "a socket or a device that is not there") from None
        raise read_error(error, name) from error
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise _not_a_file(name, kind_of(mode))
    return file


def kind_of(mode: int) -> str:
    """What a file that is not regular is, with its article."""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "not a regular file")


def _not_a_file(name: str, kind: str) -> InvalidInput:
    hint = "Use -r to store a folder." if kind == "a directory" else "To store what it says, use `put - < FILE`."
    return InvalidInput(f"{name} is {kind}, not a regular file", operation="put", subject=name, hint=hint)


def read_error(error: OSError, name: str) -> GravitonError:
    """What the operating system says about reading `name`, as an error of ours."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{name} does not exist", operation="put", subject=name, hint="Check the path.")
    reason = f"cannot read {name}: {os.strerror(error.errno or 0)}"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "Check the owner and mode of the file and of the folders above it."
        return PermissionDenied(reason, operation="put", subject=name, hint=hint)
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR):
        return InvalidInput(reason, operation="put", subject=name)
    return Unavailable(reason, operation="put", subject=name)


def read_up_to(file: io.FileIO, limit: int) -> bytes:
    """The next bytes of `file`, at most `limit`; fewer only at its end. Raises OSError."""
    data = file.read(limit) or b""
    while len(data) < limit:
        more = file.read(limit - len(data))
        if not more:
            break
        data += more
    return data


def has_changed(file: io.FileIO, before: os.stat_result, read_bytes: int) -> bool:
    """Whether the regular file, of which `read_bytes` were read, is no longer what it was `before`. Raises OSError."""
    now = os.fstat(file.fileno())
    return (read_bytes, now.st_size, now.st_mtime_ns) != (before.st_size, before.st_size, before.st_mtime_ns)


def paced(file: io.FileIO, throttle: Throttle) -> AsyncIterable[bytes]:
    """The bytes of `file` from where it stands, no faster than `throttle` lets them; a RepeatableSource, if it is a
    regular one. Cancelling ends it soon, even on a silent pipe."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return _PacedFile(file, throttle)
    return _pieces(file, throttle, can_block=True)


class _PacedFile:
    """See `RepeatableSource`."""

    def __init__(self, file: io.FileIO, throttle: Throttle) -> None:
        self._file, self._throttle = file, throttle
        self._start = file.tell()
        self.size = max(0, os.fstat(file.fileno()).st_size - self._start)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _pieces(self._file, self._throttle, can_block=False)

    def from_byte(self, offset: int) -> AsyncIterator[bytes]:
        """See `RepeatableSource`."""
        self._file.seek(self._start + offset)
        return aiter(self)


async def _pieces(file: io.FileIO, throttle: Throttle, can_block: bool) -> AsyncIterator[bytes]:
    def read(flag: CancelFlag) -> bytes:
        if can_block and not wait_readable(file.fileno(), flag):
            return b""
        return file.read(throttle.piece)

    with WorkerPool(1, "paced") as pool:
        while True:
            try:
                piece = await pool.run(read)
            except OSError as error:
                raise read_error(error, str(file.name)) from error
            if not piece:
                return
            await throttle.take(len(piece))
            yield piece
