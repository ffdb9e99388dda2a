"""`SqliteConfig`: where the file of a SQLite store lies and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graviton.errors import ConfigError

__all__ = ["SqliteConfig"]


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """Settings of one SQLite key-value store; a value out of bounds raises ConfigError.

    Memory per process is at most `writer_cache_bytes + max_readers * reader_cache_bytes` for pages (8 MiB) and about
    1 MiB per connection for everything else.
    """

    path: Path
    """The database file. `-wal` and `-shm` lie beside it and belong to it: copying the file alone loses data."""
    create: bool = True
    """Whether a missing file is created (0600, its folder 0700); if not, using the store raises NotFound."""
    busy_timeout_seconds: float = 5.0
    """How long a transaction waits for writers of other processes, 0 to 3,600."""
    max_readers: int = 4
    """Reading threads and connections, 1 to 32, begun when reads wait; a long read (a backup) occupies one of them."""
    writer_cache_bytes: int = 4 * 1024 * 1024
    """Page cache of the writing connection; larger transactions spill to the WAL."""
    reader_cache_bytes: int = 1024 * 1024
    """Page cache of each reading connection; the operating system caches the rest."""
    checkpoint_pages: int = 1000
    """Pages (4 KiB) in the WAL after which they are moved to the file, after a commit: about one in 250, and the next
    one waits a few milliseconds for it. SQLite's default; larger ones make that rarer and longer and reads slower."""
    group_limit: int = 64
    """Concurrent transactions of this process that share one commit, at most."""

    def __post_init__(self) -> None:
        if not str(self.path) or "\x00" in str(self.path):
            raise ConfigError("the path of a SQLite store is not an empty text", operation="configure")
        _bounded("busy_timeout_seconds", self.busy_timeout_seconds, 0, 3600)
        _bounded("max_readers", self.max_readers, 1, 32)
        _bounded("writer_cache_bytes", self.writer_cache_bytes, 64 * 1024, 1 << 32)
        _bounded("reader_cache_bytes", self.reader_cache_bytes, 64 * 1024, 1 << 32)
        _bounded("checkpoint_pages", self.checkpoint_pages, 1, 1 << 20)
        _bounded("group_limit", self.group_limit, 1, 1 << 16)
        object.__setattr__(self, "path", Path(self.path).absolute())


def _bounded(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {low} to {high}, not {value}", operation="configure", subject=name)
