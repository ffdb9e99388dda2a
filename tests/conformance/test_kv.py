"""The laws of `KeyValueStore`, over every implementation."""

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.testing.conformance.kv import KeyValueStoreContract


class TestInMemoryKeyValueStore(KeyValueStoreContract):
    implementation = InMemoryKeyValueStore

    def make_store(self) -> InMemoryKeyValueStore:
        return InMemoryKeyValueStore()
