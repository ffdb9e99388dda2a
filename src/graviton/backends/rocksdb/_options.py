"""RocksDB's own options, from our few; what each is for, and why not the default."""

from __future__ import annotations

from typing import Final

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options, ReadOptions, WriteOptions

from graviton.backends.rocksdb.config import RocksConfig

__all__ = ["Tuning", "whole_files", "writing"]

_BLOCK_BYTES: Final = 8 * 1024
"""Uncompressed bytes that a read of one key takes from a file. Rows have 40 to 150 bytes: with 4 KiB, the default, the
index would be twice as large for reads that are hardly quicker."""
_ARENA_BYTES: Final = 128 * 1024
"""Memory a memtable takes at a time. The default, 1 MiB, would have every namespace count 1 MiB for its first row."""
_LOG_BYTES: Final = 1024 * 1024
_LOG_FILES: Final = 3
"""RocksDB's LOG for people: a few files of a MiB. Without these bounds it keeps a thousand."""
_SYNC_BYTES: Final = 1024 * 1024
"""Files are written back as they grow, so that no sync at the end of one makes commits wait for all of it."""
_BACKGROUND_JOBS: Final = 2
"""Threads that write memtables out and compact, of all stores of a process."""
_READ_AHEAD_BYTES: Final = 256 * 1024


class Tuning:
    """Options of one store and what they share: one block cache for all namespaces."""

    def __init__(self, config: RocksConfig) -> None:
        self.cache = Cache(config.block_cache_bytes)
        self.options = _options(config, self.cache)


def _options(config: RocksConfig, cache: Cache) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_cache_index_and_filter_blocks(True)  # else they are held beside the cache, as many as there are files
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_block_size(_BLOCK_BYTES)
    table.set_format_version(5)
    if config.bloom_bits_per_key:
        table.set_bloom_filter(config.bloom_bits_per_key, False)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(table)
    options.create_if_missing(False)  # _create.py makes stores; a lost CURRENT must not look like a new one
    # A log that ends within a record is what a crash leaves. Damage before the end is refused; the default,
    # point_in_time, would drop everything from there on without a word.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    options.set_db_write_buffer_size(config.memtable_bytes)
    options.set_write_buffer_size(max(config.memtable_bytes // 2, 1 << 20))
    options.set_arena_block_size(_ARENA_BYTES)
    options.set_max_total_wal_size(config.max_log_bytes)
    options.set_max_open_files(-1 if config.read_only else config.max_open_files)
    options.set_max_background_jobs(_BACKGROUND_JOBS)
    options.set_bytes_per_sync(_SYNC_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_skip_stats_update_on_db_open(True)  # it would read a block of every file
    options.set_keep_log_file_num(_LOG_FILES)
    options.set_max_log_file_size(_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.enable_statistics()
    return options


def writing() -> WriteOptions:
    """For every write: it never waits in RocksDB, which would hold the GIL for as long, but fails and is tried again;
    nor does it sync, which would hold it too (_database.py)."""
    options = WriteOptions()
    options.sync = False
    options.no_slowdown = True
    return options


def whole_files() -> ReadOptions:
    """For reading everything once: nothing of it is kept in the cache."""
    options = ReadOptions()
    options.set_verify_checksums(True)
    options.set_readahead_size(_READ_AHEAD_BYTES)
    return options
