"""Batches of small files in one open folder: what a kernel does for stores, and the reference of it.

A batch stops at its first error and removes nothing: `FilesError` says how far it came, so that the caller can remove
exactly what there is. Making files durable, and in which order, is the caller's business.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from graviton.core.buffers import Buffer

__all__ = ["FileBatches", "FileCalls", "FilesError", "PythonFileBatches", "SystemCalls", "write_all"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class FilesError(OSError):
    """A batch that ended before its end, with the errno of the call that failed."""

    def __init__(self, number: int, reason: str, index: int, made: int) -> None:
        super().__init__(number, reason)
        self.index = index
        """The file that it came from; those before it are done."""
        self.made = made
        """How many of the names exist now: `index`, or one more if that file was created and not finished."""


class FileBatches(Protocol):
    """Many files per call. Both calls block and raise FilesError."""

    def write_files(self, folder: int, names: Sequence[str], buffers: Sequence[Buffer], mode: int) -> None:
        """Create each file, write all of its buffer and close it. A name that is taken is an error (EEXIST)."""
        ...

    def rename_files(self, folder: int, olds: Sequence[str], news: Sequence[str]) -> None:
        """Give each file another name in the same folder, replacing what has it."""
        ...


class FileCalls(Protocol):
    """The system calls behind a batch."""

    def create(self, name: str, folder: int, mode: int) -> int: ...
    def write(self, fd: int, data: Buffer) -> int: ...
    def close(self, fd: int) -> None: ...
    def rename(self, source: str, target: str, source_folder: int, target_folder: int) -> None: ...


class SystemCalls:
    """The real ones."""

    write = staticmethod(os.write)
    close = staticmethod(os.close)

    def create(self, name: str, folder: int, mode: int) -> int:
        """A descriptor of a new file, for writing."""
        return os.open(name, _CREATE, mode, dir_fd=folder)

    def rename(self, source: str, target: str, source_folder: int, target_folder: int) -> None:
        """Atomically give a file another name."""
        os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)


class PythonFileBatches:
    """`FileBatches` call by call: the definition of what the native kernel does, over any `FileCalls`."""

    def __init__(self, calls: FileCalls) -> None:
        self._calls = calls

    def write_files(self, folder: int, names: Sequence[str], buffers: Sequence[Buffer], mode: int) -> None:
        """See `FileBatches`."""
        _check_lengths(names, buffers)
        made = 0
        for index, (name, data) in enumerate(zip(names, buffers, strict=True)):
            try:
                fd = self._calls.create(name, folder, mode)
                made += 1
                self._fill(fd, data)
            except OSError as error:
                raise _stopped(error, index, made) from error

    def rename_files(self, folder: int, olds: Sequence[str], news: Sequence[str]) -> None:
        """See `FileBatches`."""
        _check_lengths(olds, news)
        for index, (old, new) in enumerate(zip(olds, news, strict=True)):
            try:
                self._calls.rename(old, new, folder, folder)
            except OSError as error:
                raise _stopped(error, index, index) from error

    def _fill(self, fd: int, data: Buffer) -> None:
        try:
            if write_all(self._calls.write, fd, data) < _size(data):
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # nothing taken, and no reason given
        except BaseException:
            with suppress(OSError):
                self._calls.close(fd)
            raise
        self._calls.close(fd)  # network file systems report write errors here


def write_all(write: Callable[[int, Buffer], int], fd: int, data: Buffer) -> int:
    """Write `data`, however few bytes each call takes. Bytes written: all, unless a call took none."""
    size = _size(data)
    written = write(fd, data) if size else 0
    while written < size:
        with memoryview(data) as view, view.cast("B") as octets, octets[written:] as rest:
            more = write(fd, rest)
        if more <= 0:
            break
        written += more
    return written


def _size(data: Buffer) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def _check_lengths(one: Sequence[object], other: Sequence[object]) -> None:
    if len(one) != len(other):
        raise ValueError("the lists have different lengths")


def _stopped(error: OSError, index: int, made: int) -> FilesError:
    return FilesError(error.errno or errno.EIO, error.strerror or str(error), index, made)
