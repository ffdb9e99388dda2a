"""Opening the store that is broken: FAULTS_METADATA=rocksdb:// puts its metadata on RocksDB instead of SQLite.

Kills and failing calls are then those of RocksDB: tests/faults/test_kill.py and test_failing_calls.py say which.
"""

from __future__ import annotations

import os
from pathlib import Path

import graviton
from graviton.assembly.store import Store

METADATA = os.environ.get("FAULTS_METADATA")


def open_store(root: Path | str, chunker: str | None = None) -> Store:
    """The store at `root`."""
    return graviton.open(root, metadata=METADATA, chunker=chunker)
