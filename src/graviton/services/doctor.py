"""`graviton doctor`: is everything in order for a store here, and what to do if not.

Each check looks at one thing and gives one or more findings; none changes anything, and none needs a store.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from graviton.core.chunking import Kernel
from graviton.errors import GravitonError
from graviton.services import machine

__all__ = [
    "MANY_ENTRIES",
    "Check",
    "Level",
    "check_entries",
    "check_kernel",
    "check_limits",
    "check_place",
    "check_store",
]

MANY_ENTRIES = 5_000_000
"""Names in one folder from which on a warning is due: ext4 without `large_dir` ends near 9 million."""

_LOW_BYTES = 1 << 30
"""Free bytes below which a warning is due: some thousand blocks."""
_NO_BYTES = 64 << 20
"""Free bytes below which a put cannot be expected to succeed: a window of blocks and SQLite's log."""
_LOW_INODES = 100_000
_SLOW_FSYNC_SECONDS = 0.1
"""A disk that needs longer stores ten small blobs a second."""
_FEW_FILES = 256
"""Threads, connections and files of one process stay far below; a server's clients do not."""


class Level(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    """Works, and something is better known or changed."""
    PROBLEM = "problem"
    """Something does not work."""


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    """Stable name, for programs."""
    level: Level
    text: str
    hint: str = ""
    """What to do about it; empty if it is in order."""
    values: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        out = {"check": self.name, "level": self.level.value, "message": self.text}
        return out | ({"hint": self.hint} if self.hint else {}) | dict(self.values)


def check_kernel(kernel: Kernel) -> Check:
    """Which implementation cuts and hashes."""
    values = {"kernel": kernel.name, "simd": kernel.simd}
    if kernel.name == "native":
        return Check("kernel", Level.OK, f"native kernel, instruction set {kernel.simd}", values=values)
    hint = "The native one is about a thousand times faster; `make setup` builds it in Graviton's repository."
    return Check("kernel", Level.WARNING, "the pure-Python kernel: correct, and slow", hint, values)


def check_limits(memory_bytes: int, files: int | None = None, memory: int | None = None) -> Iterator[Check]:
    """Open files and memory, against what the process would use. `files` and `memory` stand for the machine's own."""
    files = machine.open_files_limit() if files is None else files
    if files < _FEW_FILES:
        yield Check(
            "open_files", Level.WARNING, f"only {files} open files are allowed", "Raise it: ulimit -n 1024.",
            {"limit": files},
        )  # fmt: skip
    else:
        yield Check("open_files", Level.OK, f"{files:,} open files are allowed", values={"limit": files})
    limit = machine.memory_limit() if memory is None else memory
    values = {"memory_bytes": memory_bytes, "limit_bytes": limit}
    text = f"the memory budget is {memory_bytes >> 20:,} MiB"
    if limit is not None:
        text += f" of {limit >> 20:,} MiB that this process may use"
        if memory_bytes > limit // 2:
            yield Check("memory", Level.PROBLEM, text, "Lower GRAVITON_MEMORY_BYTES below half of that.", values)
            return
    yield Check("memory", Level.OK, text, values=values)


def check_place(name: str, folder: Path, *, holds_metadata: bool = False, mounts: str | None = None) -> Iterator[Check]:
    """The file system under a folder that may not exist yet."""
    there = machine.existing_parent(folder)
    try:
        found = machine.file_system(there) if mounts is None else machine.file_system(there, mounts)
    except OSError as error:
        yield _unreachable(name, folder, error)
        return
    yield _kind_check(name, folder, found, holds_metadata)
    yield from _room_checks(name, found)
    if found.is_read_only or not os.access(there, os.W_OK | os.X_OK):
        what = "is mounted read-only" if found.is_read_only else "cannot be written by this user"
        hint = "Reading works; to write, remount it, or change the owner or mode of the folder."
        yield Check(f"{name}.writable", Level.WARNING, f"{there} {what}", hint)
        return
    yield _fsync_check(name, there)


def _kind_check(name: str, folder: Path, found: machine.FileSystem, holds_metadata: bool) -> Check:
    text = f"{folder} is on {found.kind or 'an unknown file system'}"
    if found.mount_point:
        text += f", mounted at {found.mount_point}"
    values = {"path": str(folder), "type": found.kind, "mount_point": found.mount_point, "network": found.is_network}
    level, hint = Level.OK, ""
    if found.is_network and holds_metadata:
        level = Level.PROBLEM
        hint = "Its locks and logs are for one machine: put the metadata on a local disk (GRAVITON_META_PATH)."
    elif found.is_network:
        level, hint = Level.WARNING, "A network file system: what fsync promises there depends on the server."
    elif found.is_in_memory:
        level, hint = Level.WARNING, "It lies in memory: everything is gone with the power."
    return Check(f"{name}.file_system", level, text, hint, values)


def _room_checks(name: str, found: machine.FileSystem) -> Iterator[Check]:
    values: dict[str, Any] = {"free_bytes": found.free_bytes, "total_bytes": found.total_bytes}
    text = f"{found.free_bytes / 2**30:,.1f} GiB of {found.total_bytes / 2**30:,.1f} GiB are free"
    if found.free_bytes < _NO_BYTES:
        yield Check(f"{name}.free", Level.PROBLEM, text, "Make room: the next put will fail.", values)
    elif found.free_bytes < _LOW_BYTES:
        yield Check(f"{name}.free", Level.WARNING, text, "Make room before long.", values)
    else:
        yield Check(f"{name}.free", Level.OK, text, values=values)
    if found.free_inodes is not None and found.free_inodes < _LOW_INODES:
        level = Level.PROBLEM if found.free_inodes < 100 else Level.WARNING
        text = f"only {found.free_inodes:,} more files can be made there"
        yield Check(f"{name}.inodes", level, text, "Remove files, or make a file system with more inodes.")


def _fsync_check(name: str, folder: Path) -> Check:
    try:
        seconds = machine.fsync_seconds(folder)
    except OSError as error:
        return _unreachable(name, folder, error)
    text, values = f"fsync of a small file takes {seconds * 1000:.2f} ms", {"seconds": round(seconds, 6)}
    if seconds > _SLOW_FSYNC_SECONDS:
        hint = "Small puts will be slow: group them (put_many), or use a disk with a faster or protected write cache."
        return Check(f"{name}.fsync", Level.WARNING, text, hint, values)
    return Check(f"{name}.fsync", Level.OK, text, values=values)


def _unreachable(name: str, folder: Path, error: OSError) -> Check:
    text = f"{folder}: {error.strerror or error}"
    return Check(f"{name}.reachable", Level.PROBLEM, text, "Check the path, its owner and mode, and the system log.")


def check_entries(folder: Path, many: int = MANY_ENTRIES) -> Check:
    """How many names the folder of the blocks holds."""
    try:
        count = machine.count_entries(folder)
    except OSError as error:
        return _unreachable("blocks.entries", folder, error)
    text, values = f"{count:,} names in {folder}", {"path": str(folder), "entries": count}
    if count < many:
        return Check("blocks.entries", Level.OK, text, values=values)
    hint = "ext4 without large_dir ends near 9 million: tune2fs -O large_dir, or move the store to XFS or Btrfs."
    return Check("blocks.entries", Level.WARNING, text, hint, values)


async def check_store(look: Callable[[], Awaitable[dict[str, Any] | None]]) -> Check:
    """Whether the store can be opened. `look` opens it and gives what its marker says, or None if there is none; where
    its metadata takes no changes, also `moved_to` and, once that is in use, `settings`."""
    try:
        found = await look()
    except GravitonError as error:
        hint = error.hint or "Run the command again with --debug to see more."
        return Check("store", Level.PROBLEM, error.message, hint, {"error": error.code})
    if found is None:
        return Check("store", Level.OK, "there is no store yet; `graviton store init` or the first put makes one")
    if "moved_to" in found:
        text = f"the metadata takes no changes here: its place is taken, or is being taken, by {found['moved_to']}"
        hint = f"Set {found['settings']}; " if "settings" in found else ""
        return Check("store", Level.WARNING, text, f"{hint}`graviton meta status` says more.", found)
    text = ", ".join(f"{name} {value}" for name, value in found.items())
    return Check("store", Level.OK, f"both sides answer: {text}", values=found)
