"""Writing a blob to a file: under a temporary name beside it, then renamed; never half a file under the final name."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress

from graviton.core.hashing import Hasher
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobReader

__all__ = ["holds_blob", "write_file", "write_link"]

_COMPARE_BYTES = 1024 * 1024


async def write_file(
    reader: BlobReader,
    name: str | bytes,
    dir_fd: int | None = None,
    *,
    mode: int = 0o666,
    opened: Callable[[int], None] = lambda fd: None,
    finish: Callable[[int], None] = lambda fd: None,
) -> int:
    """Write all of `reader` to the file `name`, in place of what is there; its bytes.

    A new file has `mode` as far as the umask allows; `opened(fd)` is told of the temporary file, `finish(fd)` runs
    before it is closed and renamed. Whatever goes wrong, cancelling too, the temporary file is gone afterwards and
    `name` is untouched. Not fsynced. Raises OSError and what the reader raises.
    """
    raw = os.fsencode(name)
    temporary = _temporary_beside(raw)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    try:
        try:
            opened(fd)
            size = await reader.write_to(fd)
            finish(fd)
        finally:
            os.close(fd)
        os.rename(temporary, raw, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with suppress(OSError):  # the error that brought us here says more
            os.unlink(temporary, dir_fd=dir_fd)
        raise
    return size


def _temporary_beside(name: bytes) -> bytes:
    above, slash, _ = name.rpartition(b"/")
    return above + slash + b".graviton-" + secrets.token_hex(8).encode() + b".tmp"


def write_link(target: bytes, name: bytes, dir_fd: int, mtime_ns: int, *, replace: bool) -> None:
    """A symbolic link `name` to `target`, whatever that is. One that is there already and says the same is kept; with
    `replace` it takes the place of any other file or link. Raises OSError."""
    try:
        os.symlink(target, name, dir_fd=dir_fd)
    except FileExistsError:
        if not _is_link_to(target, name, dir_fd):
            if not replace:
                raise
            temporary = _temporary_beside(name)
            os.symlink(target, temporary, dir_fd=dir_fd)
            try:
                os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=dir_fd)
                raise
    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=dir_fd, follow_symlinks=False)


def _is_link_to(target: bytes, name: bytes, dir_fd: int) -> bool:
    try:
        return os.readlink(name, dir_fd=dir_fd) == target
    except OSError:
        return False


def holds_blob(name: str | bytes, key: BlobKey, dir_fd: int | None = None) -> bool:
    """Whether `name` is a regular file, and not a link, that has exactly the bytes of `key`. Reads it if the size is
    right. Raises OSError."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size != key.size:
            return False
        hasher = Hasher(key.algo)
        while data := os.read(fd, _COMPARE_BYTES):
            hasher.update(data)
        return hasher.digest() == key.digest
    finally:
        os.close(fd)
