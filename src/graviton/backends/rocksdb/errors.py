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

__all__ = ["damaged", "damaged_logs", "is_held", "is_stall", "translate", "translated"]

_FULL: Final = ("No space left on device", "Disk quota exceeded", "NoSpace")
_DENIED: Final = ("Permission denied", "Read-only file system", "Operation not permitted")
_HELD: Final = re.compile(
    r"While lock file: .*(Resource temporarily unavailable|Permission denied)|lock hold by current"
)
"""What another process that has the store open looks like (EAGAIN, or EACCES on some systems), and another store of
this process."""
_MISSING: Final = re.compile(r"No such file or directory|Can't access .*\.sst|file is too short|File not found")
_HOLDS: Final = re.compile(r"/(\d{6,}\.(sst|log)|MANIFEST-\d+|CURRENT)\b")
"""The files that hold the store: where one of them is not there, or not whole, it is damaged. No other is missed."""
_FILE: Final = re.compile(r"\d{6,}\.(sst|log)|MANIFEST|CURRENT")
_ONE_LOG: Final = re.compile(r"\d{6,}\.log")
_DROPPED: Final = re.compile(r"(\d{6,}\.log): dropping \d+ bytes; Corruption")


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
    if text.startswith("Corruption") or (_MISSING.search(text) and _HOLDS.search(text)):
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


def damaged_logs(folder: str, text: str) -> str:
    """What to add to `text`, the message of an open that failed in `folder`, where it names no file: the logs that
    RocksDB found damaged. It names them only in its LOG for people, and keeps none of that where it only reads: there
    it is one of all."""
    if _FILE.search(text):
        return ""
    try:
        with open(os.path.join(folder, "LOG"), encoding="utf-8", errors="replace") as lines:
            named = {match[1]: None for line in lines if (match := _DROPPED.search(line))}
        return f" in {', '.join(named)}" if named else ""
    except FileNotFoundError:
        logs = [name for name in sorted(os.listdir(folder)) if _ONE_LOG.fullmatch(name)]
        return f" in {' or '.join(logs)}" if logs else ""
