"""One store per folder: of this process, and of all.

Between processes RocksDB itself takes a POSIX lock on the file LOCK. Such locks belong to a process, and closing *any*
descriptor of the file in it drops them; so nobody here opens LOCK while a store of this process may have it, which the
claims of this module say. They also tell a second store of the same process apart from another process.

RocksDB moves and removes files of the folder before it asks for that lock, so two that open at once stumble over each
other. Whoever opens holds a lock of ours on the folder itself meanwhile (`flock`, which closing another descriptor does
not drop).

A fork copies RocksDB without its background threads: whatever is opened in the child would wait for them for ever, and
taking apart there what the parent has open would write into the parent's files. So a process that has used RocksDB
before it forked cannot use it in the child.

At the exit of any process RocksDB waits for its threads, in a destructor of the C++ library: in such a child it would
wait for threads that are not there, or crash. By then Python has ended in order, so the child skips what is left.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from graviton.errors import Retry, Unavailable

__all__ = ["Claim", "begin_use", "holder", "opening", "somebody_has_it", "who_has"]

LOCK_FILE: Final = "LOCK"

_FLOCK: Final = "hhqqi"
"""`struct flock` of Linux and 64-bit offsets: type, whence, start, length, pid."""


class _Process:
    """What this process has open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.claimed: set[str] = set()
        self.has_used = False
        self.is_forked = False


_process = _Process()


def _after_fork() -> None:
    global _process  # its lock may be held by a thread that is not there
    before, _process = _process, _Process()
    _process.is_forked = before.has_used or before.is_forked
    if before.has_used:
        _end_without_destructors()


def _end_without_destructors() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # of glibc
        # What is registered last runs first, and gets the exit code: `_exit` itself is a good handler.
        libc.on_exit(libc._exit, None)


os.register_at_fork(after_in_child=_after_fork)


class Claim:
    """The right of one store of this process to a folder."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._is_taken = False

    def take(self) -> bool:
        """Whether no other store of this process has it."""
        with _process.lock:
            if self._path in _process.claimed:
                return False
            _process.claimed.add(self._path)
            self._is_taken = True
            return True

    def give_back(self) -> None:
        """Others may take it. Idempotent."""
        with _process.lock:
            if self._is_taken:
                _process.claimed.discard(self._path)
                self._is_taken = False


def begin_use(path: str) -> None:
    """Before RocksDB is used for the store at `path`. Raises Unavailable in a child of a process that had used it."""
    if _process.is_forked:
        raise Unavailable(
            f"{path} cannot be opened here: RocksDB was in use in the process that this one was forked from",
            operation="metadata.open",
            subject=path,
            hint="Start the process another way (multiprocessing: spawn), or use the store only after the fork.",
            retry=Retry.PERMANENT,
        )
    _process.has_used = True


def who_has(path: str) -> str | None:
    """Who has the store at `path` open; None if nobody."""
    claim = Claim(path)
    if not claim.take():
        return "this process"
    try:
        return holder(path)
    finally:
        claim.give_back()


def holder(path: str) -> str | None:
    """Who has the store at `path` open, as far as the system says; None if nobody. Only while this process has a claim,
    and no lock."""
    try:
        fd = os.open(os.path.join(path, LOCK_FILE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    except OSError:
        return None
    finally:
        os.close(fd)
    if kind == fcntl.F_UNLCK:
        return None
    return f"process {pid}" if pid > 0 else "another process"  # of another container, or another machine


@contextmanager
def opening(path: str) -> Iterator[bool]:
    """While the store at `path` is opened: whether nobody else is doing that. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        is_alone = True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_alone = False
        except OSError:
            pass  # a file system without such locks: two that open at once may be told of errors
        try:
            yield is_alone
        finally:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile may keep its copy open
    finally:
        os.close(fd)


def somebody_has_it(path: str, by: str, waited_seconds: float) -> Unavailable:
    """The error of who comes second; `by` names who was first."""
    waited = f" after waiting {waited_seconds:g} s" if waited_seconds else ""
    return Unavailable(
        f"{path} is in use by {by}{waited}; RocksDB is for one process at a time",
        operation="metadata.open",
        subject=path,
        hint="Wait for it with --lock-wait SECONDS (or GRAVITON_LOCK_WAIT), use the address of the server that has it"
        " open, or choose a metadata store for several processes: sqlite, or postgres.",
    )
