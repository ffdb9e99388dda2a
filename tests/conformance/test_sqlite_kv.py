"""The laws of `KeyValueStore` over SQLite."""

import sqlite3
from contextlib import closing
from pathlib import Path
from zlib import crc32

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.metadata.read_only import GuardedKeyValueStore
from graviton.testing.conformance.kv import KeyValueStoreContract
from tests.unit.filesystem.places import make_read_only, make_writable


class TestSqliteKeyValueStore(KeyValueStoreContract):
    implementation = SqliteKeyValueStore

    @property
    def file(self) -> Path:
        return self.scratch / "store/meta.sqlite"

    def make_store(self) -> SqliteKeyValueStore:
        return SqliteKeyValueStore(SqliteConfig(self.file))

    def make_impatient_store(self) -> SqliteKeyValueStore:
        return SqliteKeyValueStore(SqliteConfig(self.file, busy_timeout_seconds=0.05))

    async def raw_write(self, namespace: str, key: bytes, value: bytes) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            row = (key, value, crc32(key + value))
            connection.execute(f"INSERT OR REPLACE INTO ns_{namespace} VALUES (?, ?, ?)", row)

    async def raw_read(self, namespace: str, key: bytes) -> bytes | None:
        with closing(sqlite3.connect(self.file)) as connection:
            rows = connection.execute(f"SELECT value FROM ns_{namespace} WHERE key = ?", (key,)).fetchall()
        return rows[0][0] if rows else None

    async def damage(self) -> None:
        data = bytearray(self.file.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 5000] = bytes(5000)
        self.file.write_bytes(data)

    async def make_read_only(self) -> None:
        make_read_only(self.file.parent)

    async def tear_down(self) -> None:
        if self.file.parent.exists():
            make_writable(self.file.parent)


class TestSqliteOneTransactionPerCommit(TestSqliteKeyValueStore):
    """Without group commit, and with one reader."""

    def make_store(self) -> SqliteKeyValueStore:
        return SqliteKeyValueStore(SqliteConfig(self.file, group_limit=1, max_readers=1))


class TestGuardedKeyValueStore(TestSqliteKeyValueStore):
    """As metadata: whether it was closed is looked at in every transaction that may write."""

    implementation = GuardedKeyValueStore
    capabilities = SqliteKeyValueStore.capabilities

    def make_store(self) -> GuardedKeyValueStore:  # type: ignore[override]
        return GuardedKeyValueStore(super().make_store())

    def make_impatient_store(self) -> GuardedKeyValueStore:  # type: ignore[override]
        return GuardedKeyValueStore(super().make_impatient_store())
