"""The embedded default beside dicts, closed and opened again in between."""

from pathlib import Path

import graviton
from graviton.assembly.store import Store
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from tests.stateful.blob_machine import blob_machine
from tests.stateful.kv_machine import kv_machine


def sqlite(folder: Path) -> SqliteKeyValueStore:
    return SqliteKeyValueStore(SqliteConfig(folder / "kv.sqlite"))


def embedded(folder: Path) -> Store:
    return graviton.open(folder / "store", chunker="w16-v1:256:1024:4096")


TestSqliteBesideADict = kv_machine(sqlite, reopens=True, steps=10)
TestEmbeddedStoreBesideADict = blob_machine(embedded, reopens=True, steps=10)
