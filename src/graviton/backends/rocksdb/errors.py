"""The one translation of what RocksDB says, which comes as the text of a plain `Exception`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rocksdict import DbClosedError

from graviton.errors import (
    GravitonError,
    IntegrityError,
    PermissionDenied,
    StorageFull,
    Unavailable,
)

__all__ = ["damaged", "is_held", "is_stall", "log_damage", "translate", "translated"]

_FULL: Final = ("No space left on device", "Disk quota exceeded", "NoSpace")
_DENIED: Final = ("Permission denied", "Read-only file system", "Operation not permitted")
_HELD: Final = re.compile(
    r"While lock file: .*(Resource temporarily unavailable|Permission denied)|lock hold by current"
)
"""What another process that has the store open looks like (EAGAIN, or EACCES on some systems), and another store of
this process."""
_MISSING: Final = re.compile(r"No such file or directory|Can't access .*\.sst|file is too short|File not found")
"""A file of the store that is not there, or not whole: whoever removed it damaged the store."""
_LOG_FILE: Final = re.compile(r"/\d{6,}\.log\b")


def is_stall(error: Exception) -> bool:
    """Whether RocksDB would have the write wait, because compaction is behind."""
    return "Write stall" in str(error)


def is_held(error: Exception) -> bool:
    """Whether somebody else has the store open."""
    return _HELD.search(str(error)) is not None


@contextmanager
def translated(path: str, operation: str) -> Iterator[None]:
    """Around calls of rocksdict, which raise nothing narrower than `Exception`: the error of ours instead. Around
    nothing else, since it takes every exception for one of RocksDB's."""
    try:
        yield
    except GravitonError:
        raise
    except Exception as error:
        raise translate(error, path, operation) from error


def translate(error: Exception, path: str, operation: str) -> GravitonError:
    """The error of ours that says what `error` says about the store at `path`."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, DbClosedError):
        return Unavailable(
            f"{path} was closed after an error of the disk; it is opened again by the next transaction",
            operation=operation,
            subject=path,
        )
    if any(sign in text for sign in _FULL):
        return StorageFull(
            f"no room in {path}: {text}",
            operation=operation,
            subject=path,
            hint="Free space (or raise the quota) on the file system of the metadata store, then try again.",
        )
    if text.startswith("Corruption") or _MISSING.search(text):
        return damaged(path, operation, text)
    if any(sign in text for sign in _DENIED):
        return PermissionDenied(
            f"not allowed to write {path}: {text}",
            operation=operation,
            subject=path,
            hint="Check the owner and mode of the folder and its files, and whether it is mounted read-only.",
        )
    return Unavailable(
        f"{path} failed: {text}",
        operation=operation,
        subject=path,
        hint="Look at the system log and the health of the disk; then try again.",
    )


def damaged(path: str, operation: str, what: str) -> IntegrityError:
    """The files of the store are not what RocksDB wrote."""
    return IntegrityError(
        f"the metadata store {path} is damaged: {what}",
        operation=operation,
        subject=path,
        hint="Look at the system log for errors of the disk first. Then, while no process uses the store, move its"
        " folder away and put a checkpoint in its place, or restore it with `graviton meta restore` from the last"
        " `graviton meta backup`; `graviton verify --all` then shows what is missing.",
    )


def log_files(path: str) -> list[str]:
    """The write-ahead logs of the store, oldest first."""
    return sorted(os.path.join(path, name) for name in os.listdir(path) if _LOG_FILE.fullmatch("/" + name))


def log_damage(path: str, text: str) -> str:
    """What to add to the message of an open that found a damaged log, which RocksDB does not name: its name."""
    if re.search(r"/\d{6,}\.(sst|log)|MANIFEST", text):
        return ""
    return f" (in one of {', '.join(os.path.basename(name) for name in log_files(path))})"
