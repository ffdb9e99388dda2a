"""The laws of `KeyValueStore` over RocksDB."""

from pathlib import Path

from rocksdict import Options, Rdict

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.testing.conformance.kv import KeyValueStoreContract
from tests.unit.filesystem.places import make_read_only, make_writable


class TestRocksKeyValueStore(KeyValueStoreContract):
    implementation = RocksKeyValueStore

    @property
    def folder(self) -> Path:
        return self.scratch / "store/meta.rocks"

    def make_store(self) -> RocksKeyValueStore:
        return RocksKeyValueStore(RocksConfig(self.folder, memtable_bytes=1 << 20))

    def _raw(self, namespace: str) -> tuple[Rdict, Rdict]:
        options = Options(raw_mode=True)
        names = Rdict.list_cf(str(self.folder), options)
        root = Rdict(str(self.folder), options, dict.fromkeys(names, options))
        return root, root.get_column_family(f"ns_{namespace}")

    async def raw_write(self, namespace: str, key: bytes, value: bytes) -> None:
        root, family = self._raw(namespace)
        family.put(key, value)
        family.close()
        root.close()

    async def raw_read(self, namespace: str, key: bytes) -> bytes | None:
        root, family = self._raw(namespace)
        value = family.get(key)
        family.close()
        root.close()
        return value

    async def damage(self) -> None:
        for table in self.folder.glob("*.sst"):
            data = bytearray(table.read_bytes())
            middle = len(data) // 2
            data[middle : middle + 50] = bytes(byte ^ 0xFF for byte in data[middle : middle + 50])
            table.write_bytes(data)

    async def make_read_only(self) -> None:
        make_read_only(self.folder.parent)

    async def tear_down(self) -> None:
        if self.folder.parent.exists():
            make_writable(self.folder.parent)


class TestRocksOneTransactionPerCommit(TestRocksKeyValueStore):
    """Without group commit, with one reader, never waiting for the disk."""

    capabilities = RocksKeyValueStore.capabilities._replace(durable=False)

    def make_store(self) -> RocksKeyValueStore:
        return RocksKeyValueStore(RocksConfig(self.folder, group_limit=1, max_readers=1, sync_writes=False))
