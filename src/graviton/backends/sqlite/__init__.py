"""The key-value store of the embedded default, in one file."""

from __future__ import annotations

from graviton.backends.sqlite.config import SqliteConfig
from graviton.backends.sqlite.kv import SqliteKeyValueStore

__all__ = ["SqliteConfig", "SqliteKeyValueStore"]
