"""Opening the store that is broken: FAULTS_METADATA=rocksdb:// puts its metadata on RocksDB instead of SQLite.

Kills, failing calls and power losses are then those of RocksDB. Tests that damage files of SQLite do not fit.
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
