"""The laws of the object stores over a directory."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from graviton.backends.filesystem import FsImmutableObjectStore, FsMutableObjectStore, FsObjectConfig
from graviton.core.locators import Locator
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore
from graviton.testing.conformance.mutable_objects import MutableObjectStoreContract
from graviton.testing.conformance.objects import ImmutableObjectStoreContract
from tests.unit.filesystem.places import make_read_only, make_writable


class TestFsImmutableObjectStore(ImmutableObjectStoreContract):
    implementation = FsImmutableObjectStore

    def make_store(self) -> FsImmutableObjectStore:
        return FsImmutableObjectStore(FsObjectConfig(self.scratch / "store"))

    async def fill(self, store: ImmutableObjectStore, objects: Mapping[str, bytes]) -> None:
        writer = FsMutableObjectStore(FsObjectConfig(self.scratch / "store"))
        for path, data in objects.items():
            await writer.put(self.locator(path), data)
        await writer.aclose()

    def locator(self, path: str) -> Locator:
        return Locator("file", "default", path)

    async def break_backend(self, store: ImmutableObjectStore) -> None:
        break_root(self.scratch / "store")


class TestFsMutableObjectStore(MutableObjectStoreContract):
    implementation = FsMutableObjectStore

    def make_store(self) -> FsMutableObjectStore:
        return FsMutableObjectStore(FsObjectConfig(self.scratch / "store", bucket="Bücket", workers=2))

    def locator(self, path: str) -> Locator:
        return Locator("file", "Bücket", path)

    async def temporary_files(self, store: MutableObjectStore) -> Sequence[str]:
        return [name for _, _, files in os.walk(self.scratch) for name in files if name.startswith(".tmp")]

    async def break_backend(self, store: ImmutableObjectStore) -> None:
        break_root(self.scratch / "store")

    async def make_read_only(self, store: MutableObjectStore) -> None:
        make_read_only(self.scratch / "store")

    async def tear_down(self) -> None:
        if (self.scratch / "store").exists():
            make_writable(self.scratch / "store")


def break_root(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    root.write_bytes(b"a file where the folder was")
