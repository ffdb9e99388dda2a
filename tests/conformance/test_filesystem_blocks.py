"""The laws of `BlockStore` and `BlockReclaimer` over a directory, with and without syncfs."""

import os
from collections.abc import Sequence
from pathlib import Path

from graviton.backends.filesystem import FsBlockReclaimer, FsBlockStore, FsConfig
from graviton.core.chunking._kernel import PythonKernel
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.ports.reclaimer import TrashEntry
from graviton.testing.conformance.blocks import BlockStoreContract
from graviton.testing.conformance.reclaimer import BlockReclaimerContract
from tests.unit.filesystem.places import make_read_only, make_writable


def replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


class TestFsBlockStore(BlockStoreContract):
    implementation = FsBlockStore

    @property
    def blocks(self) -> Path:
        return self.scratch / "store/cas/blocks"

    def make_store(self) -> FsBlockStore:
        return FsBlockStore(FsConfig(self.scratch / "store"))

    def path(self, one: CanonicalBlock) -> Path:
        return self.blocks / one.key.algo.value / f"{one.key.hex}-{one.key.size}"

    async def raw_write(self, store: BlockStore, one: CanonicalBlock) -> None:
        replace(self.path(one), bytes(one.payload))

    async def raw_read(self, store: BlockStore, one: CanonicalBlock) -> bytes | None:
        return self.path(one).read_bytes() if self.path(one).exists() else None

    async def put_foreign_files(self, store: BlockStore) -> None:
        digest = "00" * 32
        for name in (
            "README", f".tmp-a-{'0' * 24}", f"{digest}-5.zst", digest, f"{digest}-05", f"{digest}-0", f"{digest}-5 ",
            f"{'AB' * 32}-5", f"{digest}-99999999", f"{digest}-", f"{digest}-x", f".{digest}-5", "é" * 64 + "-5",
        ):  # fmt: skip
            replace(self.blocks / "blake3" / name, b"12345")
        replace(self.blocks / "md5" / f"{digest}-5", b"12345")
        replace(self.blocks / f"{digest}-5", b"12345")
        (self.blocks / "blake3" / f"{'11' * 32}-5").mkdir(exist_ok=True)
        link = self.blocks / "blake3" / f"{'22' * 32}-5"
        link.unlink(missing_ok=True)
        link.symlink_to("README")

    async def temporary_files(self, store: BlockStore) -> Sequence[str]:
        return [name for _, _, files in os.walk(self.scratch) for name in files if name.startswith(".tmp")]

    async def break_backend(self, store: BlockStore) -> None:
        (self.blocks / "blake3").rename(self.scratch / "elsewhere")
        (self.blocks / "blake3").write_bytes(b"a file where the folder was")

    async def make_read_only(self, store: BlockStore) -> None:
        make_read_only(self.scratch / "store")

    async def tear_down(self) -> None:
        if (self.scratch / "store").exists():
            make_writable(self.scratch / "store")


class TestFsBlockStoreWithSyncfs(TestFsBlockStore):
    """Every batch of two or more goes through syncfs."""

    def make_store(self) -> FsBlockStore:
        config = FsConfig(self.scratch / "store", syncfs_min_files=2, syncfs_max_mean_bytes=1 << 24)
        return FsBlockStore(config, syncfs=PythonKernel().syncfs)


class TestFsBlockStoreWithOneThread(TestFsBlockStore):
    """Nothing may rely on a second thread being free."""

    def make_store(self) -> FsBlockStore:
        return FsBlockStore(FsConfig(self.scratch / "store", workers=1, fsync_workers=1))


class TestFsBlockReclaimer(BlockReclaimerContract):
    implementation = FsBlockReclaimer
    capabilities = FsBlockStore.capabilities

    def make_store(self) -> FsBlockStore:
        return FsBlockStore(FsConfig(self.scratch))

    def make_reclaimer(self, store: BlockStore) -> FsBlockReclaimer:
        assert isinstance(store, FsBlockStore)
        return FsBlockReclaimer(store)

    async def raw_write_trash(self, store: BlockStore, entry: TrashEntry, data: bytes) -> None:
        folder = self.scratch / "trash" / entry.key.algo.value / f"{entry.key.hex}-{entry.key.size}"
        replace(folder / f"{entry.moved_at_ns}-{entry.token}", data)
