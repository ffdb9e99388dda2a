"""The key-value store for many small writes by one process, on RocksDB; needs the extra `graviton[rocksdb]`."""

from __future__ import annotations

from graviton.backends.rocksdb._claims import who_has
from graviton.backends.rocksdb.config import RocksConfig
from graviton.backends.rocksdb.kv import RocksKeyValueStore
from graviton.backends.rocksdb.metrics import RocksMetrics

__all__ = ["RocksConfig", "RocksKeyValueStore", "RocksMetrics", "who_has"]
