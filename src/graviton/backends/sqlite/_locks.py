"""Who holds the write lock of a SQLite file, as far as the system tells cheaply."""

from __future__ import annotations

import os
from typing import Final

from graviton.backends.sqlite._create import beside

__all__ = ["lock_holders"]

_LOCKS: Final = "/proc/locks"
_WAL_WRITE_LOCK: Final = 120
"""Byte of the `-shm` file that the one writer locks: https://sqlite.org/walformat.html#wal_locks."""


def lock_holders(path: str) -> list[int]:
    """Process ids that hold the write lock of the database at `path`; empty where that cannot be found out."""
    try:
        found = os.stat(beside(path, "-shm"))
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        with open(_LOCKS, encoding="ascii", errors="replace") as lines:
            return sorted({pid for line in lines if (pid := _writer(line.split(), place)) > 0})
    except OSError:
        return []


def _writer(fields: list[str], place: str) -> int:
    # "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 120 120"; "->" marks those who wait
    if len(fields) != 8 or fields[3] != "WRITE" or fields[5] != place or not fields[6].isdigit():
        return 0
    last = int(fields[7]) if fields[7].isdigit() else 1 << 62
    return int(fields[4]) if int(fields[6]) <= _WAL_WRITE_LOCK <= last else 0
