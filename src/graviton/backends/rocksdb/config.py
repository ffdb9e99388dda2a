"""`RocksConfig`: where a RocksDB store lies and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graviton.errors import ConfigError

__all__ = ["RocksConfig"]


@dataclass(frozen=True, slots=True)
class RocksConfig:
    """Settings of one RocksDB key-value store; a value out of bounds raises ConfigError.

    Memory per process is about `memtable_bytes + block_cache_bytes`, a transaction's own bytes (at most
    `MAX_TRANSACTION_BYTES`, 100 for each row among them, twice while it is written) and some MiB for threads and files.
    """

    path: Path
    """The folder of the store, which is RocksDB's with everything in it."""
    create: bool = True
    """Whether a missing store is made (0700); if not, using it raises NotFound."""
    read_only: bool = False
    """Look at what is there at the moment of the first call and take no lock, also while another process writes;
    writing raises PermissionDenied, and nothing in the folder is touched."""
    lock_wait_seconds: float = 0.0
    """How long to wait for another process, or another store of this one, that has it open; 0 to 3,600."""
    sync_writes: bool = True
    """False makes every transaction RELAXED: what was acknowledged survives the end of the process, and may be lost
    with the power; `capabilities.durable` is False then."""
    max_readers: int = 4
    """Reading threads, 1 to 32, begun when reads wait; a long read (a backup) occupies one of them."""
    group_limit: int = 64
    """Concurrent transactions that share one write and one sync, at most."""
    memtable_bytes: int = 32 * 1024 * 1024
    """Changes held in memory, of all namespaces together, before they are sorted into files; 1 MiB to 16 GiB. More
    makes fewer and larger files, so less compaction."""
    block_cache_bytes: int = 32 * 1024 * 1024
    """Blocks of files held in memory, uncompressed, with their indexes and filters; 1 MiB to 1 TiB. The operating
    system caches the files beside it."""
    bloom_bits_per_key: int = 10
    """Filter per key of a file, 0 (none) to 32 bits. 10 spare 99 % of the reads for keys that are not there, which is
    what a put of new blocks asks for; each bit more halves the rest."""
    max_log_bytes: int = 64 * 1024 * 1024
    """Size of the write-ahead logs that makes RocksDB write memtables out, 1 MiB to 16 GiB: what an open after a crash
    reads again, at some 100 MB/s."""
    max_open_files: int = 256
    """Files held open, 32 to 1,000,000, or -1 for all of them."""
    stall_timeout_seconds: float = 30.0
    """How long a transaction waits while RocksDB takes no writes because compaction is behind, 0 to 3,600."""

    def __post_init__(self) -> None:
        if not str(self.path) or "\x00" in str(self.path):
            raise ConfigError("the path of a RocksDB store is not an empty text", operation="configure")
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"the path of a RocksDB store is UTF-8, and {str(self.path)!r} is not", operation="configure"
            ) from None
        if self.read_only and self.create:
            object.__setattr__(self, "create", False)
        _bounded("lock_wait_seconds", self.lock_wait_seconds, 0, 3600)
        _bounded("max_readers", self.max_readers, 1, 32)
        _bounded("group_limit", self.group_limit, 1, 1 << 16)
        _bounded("memtable_bytes", self.memtable_bytes, 1 << 20, 1 << 34)
        _bounded("block_cache_bytes", self.block_cache_bytes, 1 << 20, 1 << 40)
        _bounded("bloom_bits_per_key", self.bloom_bits_per_key, 0, 32)
        _bounded("max_log_bytes", self.max_log_bytes, 1 << 20, 1 << 34)
        if self.max_open_files != -1:
            _bounded("max_open_files", self.max_open_files, 32, 1_000_000)
        _bounded("stall_timeout_seconds", self.stall_timeout_seconds, 0, 3600)
        object.__setattr__(self, "path", Path(self.path).absolute())


def _bounded(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} is {low} to {high}, not {value}", operation="configure", subject=name)
