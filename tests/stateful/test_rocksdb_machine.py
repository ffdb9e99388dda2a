"""RocksDB beside a dict, closed and opened again in between."""

from pathlib import Path

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from tests.stateful.kv_machine import kv_machine


def rocksdb(folder: Path) -> RocksKeyValueStore:
    return RocksKeyValueStore(RocksConfig(folder / "kv.rocks", memtable_bytes=1 << 20))


TestRocksBesideADict = kv_machine(rocksdb, reopens=True, steps=10)
