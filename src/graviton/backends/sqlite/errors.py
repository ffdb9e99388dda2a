"""The one translation of sqlite3's exceptions."""

from __future__ import annotations

import os
import sqlite3
from typing import Final, TypeAlias

from graviton.backends.sqlite._locks import lock_holders
from graviton.errors import (
    GravitonError,
    IntegrityError,
    LimitExceeded,
    PermissionDenied,
    StorageFull,
    Unavailable,
)

__all__ = [
    "FAILURES",
    "FSYNC_FAILED",
    "FULL",
    "READONLY",
    "Failure",
    "damaged",
    "primary_code",
    "translate",
]

_BUSY: Final = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED: https://sqlite.org/rescode.html
Failure: TypeAlias = sqlite3.Error | UnicodeDecodeError
FAILURES: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a statement raises. The second: the module cannot decode a message of SQLite that quotes a damaged schema."""
READONLY: Final = 8
"""SQLITE_READONLY. Also where nothing forbids writing: opening for that failed once, and SQLite fell back silently."""
_DENIED: Final = frozenset({3, 23})  # SQLITE_PERM, SQLITE_AUTH
_IOERR: Final = 10
_DAMAGED: Final = frozenset({1, 11, 19, 20, 24, 26})
"""SQLITE_CORRUPT and NOTADB; ERROR, CONSTRAINT, MISMATCH and FORMAT, because our statements never change and are right
for the tables we made: where one of them does not fit, the schema or the header is not what we wrote."""
FULL: Final = 13
"""SQLITE_FULL: a write, not a sync, found no room."""
_CANTOPEN: Final = 14  # also any error of open() itself
_TOOBIG: Final = 18
FSYNC_FAILED: Final = frozenset({1034, 1290})
"""SQLITE_IOERR_FSYNC and SQLITE_IOERR_DIR_FSYNC."""

_ROOM_BYTES: Final = 1024 * 1024
"""Less free space than this at the moment of an I/O error means that the disk is full: SQLite says SQLITE_FULL only for
ENOSPC from a write, and an I/O error for a full quota, a full disk at fsync or a WAL index that cannot grow."""


def primary_code(error: Failure) -> int:
    """SQLite's primary result code; 0 for errors of the Python module itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translate(error: Failure, path: str, operation: str) -> GravitonError:
    """The error of ours that says what `error` says about the store at `path`."""
    code = primary_code(error)
    reason = f"{error} [{getattr(error, 'sqlite_errorname', type(error).__name__)}]"
    if code in _BUSY:
        return _busy(path, operation)
    if code in _DAMAGED or isinstance(error, UnicodeDecodeError):
        return damaged(path, operation, reason)
    if code == FULL or (code == _IOERR and _no_room(path)):
        return StorageFull(
            f"no room in {path}: {reason}",
            operation=operation,
            subject=path,
            hint="Free space (or raise the quota) on the file system of the metadata store, then try again.",
        )
    if code in _DENIED or (code in (READONLY, _CANTOPEN) and not _may_write(path)):
        return PermissionDenied(
            f"not allowed to write {path}: {reason}",
            operation=operation,
            subject=path,
            hint="Check the owner and mode of the file and its folder, and whether it is mounted read-only.",
        )
    if code == _TOOBIG:
        return LimitExceeded(f"a value is too large for {path}: {reason}", operation=operation, subject=path)
    return Unavailable(
        f"{path} failed: {reason}",
        operation=operation,
        subject=path,
        hint="Look at the system log and the health of the disk; then try again.",
    )


def damaged(path: str, operation: str, what: str) -> IntegrityError:
    """The metadata file is not what we wrote."""
    return IntegrityError(
        f"the metadata store {path} is damaged: {what}",
        operation=operation,
        subject=path,
        # SQLite reports a disk that cannot be read as a damaged file (vdbe.c, SQLITE_IOERR_CORRUPTFS).
        hint="Look at the system log for errors of the disk first. Then, while no process uses the store, move the file"
        " and its -wal and -shm away and restore it with `graviton meta restore` from the last `graviton meta backup`;"
        " `graviton verify --all` then shows what is missing.",
    )


def _busy(path: str, operation: str) -> Unavailable:
    holders = lock_holders(path)
    by = f" held by process {', '.join(map(str, holders))}" if holders else ""
    return Unavailable(
        f"process {os.getpid()} waited too long for the write lock of {path}{by}",
        operation=operation,
        subject=path,
        hint="Another process writes for very long; wait for it or look at what it does.",
    )


def _no_room(path: str) -> bool:
    try:
        stat = os.statvfs(os.path.dirname(path))
    except OSError:
        return False
    return stat.f_bavail * stat.f_frsize < _ROOM_BYTES


def _may_write(path: str) -> bool:
    """Whether the mode of the file, or of the folder it would be made in, is in nobody's way. Asks the system, for
    which root may not write on a read-only mount either."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return True
    return os.access(folder, os.W_OK) and (not os.path.exists(path) or os.access(path, os.W_OK))
