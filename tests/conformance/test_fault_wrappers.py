"""Without a planned fault the faulty wrappers are the stores they wrap."""

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.memory.objects import InMemoryMutableObjectStore
from graviton.core.locators import Locator
from graviton.testing.conformance.blocks import BlockStoreContract
from graviton.testing.conformance.kv import KeyValueStoreContract
from graviton.testing.conformance.mutable_objects import MutableObjectStoreContract
from graviton.testing.faults import FaultPlan, FaultyBlockStore, FaultyKeyValueStore, FaultyObjectStore


class TestFaultyKeyValueStoreWithoutFaults(KeyValueStoreContract):
    implementation = FaultyKeyValueStore
    capabilities = InMemoryKeyValueStore.capabilities

    def make_store(self) -> FaultyKeyValueStore:
        return FaultyKeyValueStore(InMemoryKeyValueStore(), FaultPlan())


class TestFaultyBlockStoreWithoutFaults(BlockStoreContract):
    implementation = FaultyBlockStore
    capabilities = InMemoryBlockStore.capabilities

    def make_store(self) -> FaultyBlockStore:
        return FaultyBlockStore(InMemoryBlockStore(), FaultPlan())


class TestFaultyObjectStoreWithoutFaults(MutableObjectStoreContract):
    implementation = FaultyObjectStore
    capabilities = InMemoryMutableObjectStore.capabilities

    def make_store(self) -> FaultyObjectStore:
        return FaultyObjectStore(InMemoryMutableObjectStore(bucket="bucket"), FaultPlan())

    def locator(self, path: str) -> Locator:
        return Locator("memory", "bucket", path)
