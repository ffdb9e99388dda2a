"""The laws of `ImmutableObjectStore` and `MutableObjectStore`, over every implementation."""

from collections.abc import Mapping

from graviton.backends.memory.objects import InMemoryImmutableObjectStore, InMemoryMutableObjectStore
from graviton.core.locators import Locator
from graviton.ports.objects import ImmutableObjectStore
from graviton.testing.conformance.mutable_objects import MutableObjectStoreContract
from graviton.testing.conformance.objects import SOME, ImmutableObjectStoreContract


class TestInMemoryImmutableObjectStore(ImmutableObjectStoreContract):
    implementation = InMemoryImmutableObjectStore

    def make_store(self) -> InMemoryImmutableObjectStore:
        return InMemoryImmutableObjectStore()

    async def filled(self, objects: Mapping[str, bytes] | None = None) -> ImmutableObjectStore:
        return InMemoryImmutableObjectStore(SOME if objects is None else objects)  # there is no other way in

    def locator(self, path: str) -> Locator:
        return Locator("memory", "default", path)


class TestInMemoryMutableObjectStore(MutableObjectStoreContract):
    implementation = InMemoryMutableObjectStore

    def make_store(self) -> InMemoryMutableObjectStore:
        return InMemoryMutableObjectStore(bucket="bucket")

    def locator(self, path: str) -> Locator:
        return Locator("memory", "bucket", path)
