"""The laws of a store behind a URL, over a real server in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.http import HttpBlobStore, HttpConfig
from graviton.constraints.budget import ByteBudget
from graviton.core.keys import BlobKey
from graviton.core.secret import Secret
from graviton.metadata.rows import OWNERS, OwnerRow
from graviton.ports.blobs import BlobStore
from graviton.ports.block_index import OwnerState
from graviton.testing.conformance.any_store import AnyStoreContract
from tests.http_spaces import TOKEN, Served, spaces

SETTLE_SECONDS = 5.0
"""A server learns that a client has gone when it looks at the connection, which is soon and not at once."""


class TestHttpBlobStore(AnyStoreContract):
    implementation = HttpBlobStore
    large_bytes = 2_000_000
    """Several pieces."""
    served: ClassVar[Served]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with spaces(tmp_path_factory.mktemp("spaces")) as cls.served:
            yield

    async def set_up(self) -> None:
        self.budget = ByteBudget()

    def make_store(self) -> HttpBlobStore:
        return HttpBlobStore(HttpConfig(f"{self.served.url}/{self.space}", Secret(TOKEN)), budget=self.budget)

    @property
    def _root(self) -> Path:
        return self.served.base / self.space

    async def damage(self, store: BlobStore, key: BlobKey) -> None:
        path = await self._a_block(key)
        data = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))

    async def lose(self, store: BlobStore, key: BlobKey) -> None:
        (await self._a_block(key)).unlink()

    async def _a_block(self, key: BlobKey) -> Path:
        async with Store(Settings(fs_root=self._root)) as inside:
            manifests = (await inside.required()).manifests
            keys = [entry.key async for page in manifests.pages(await manifests.get(key)) for entry in page]
        middle = keys[len(keys) // 2]
        return self._root / "cas/blocks" / middle.algo.value / f"{middle.hex}-{middle.size}"

    async def leftovers(self, store: BlobStore) -> Sequence[str]:
        left: list[str] = []
        for _ in range(100):
            left = await self._left()
            if not left:
                break
            await asyncio.sleep(SETTLE_SECONDS / 100)
        return left

    async def _left(self) -> list[str]:
        left = [str(path) for path in self._root.rglob(".tmp*")]
        async with Store(Settings(fs_root=self._root)) as inside:
            if await inside.existing() is not None:
                kv = await inside.metadata()
                rows = [OwnerRow.decode(value) async for _, value in kv.scan(OWNERS)]
                left += [f"open session {row}" for row in rows if row.state is OwnerState.OPEN]
        return left + ([f"{self.budget.used} bytes of memory"] if self.budget.used else [])
