"""A cache beside a dict: whatever happens to its disk, reads are right, and it is never larger than it may be."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from graviton.backends.filesystem._disk import Disk
from graviton.errors import NotFound
from graviton.stores.layers.cache.keeper import charge_of
from graviton.testing.conformance.block_values import block
from tests.unit.cache.caches import Cached, CountingBlocks, files

_T = TypeVar("_T")

BLOCKS = [block(bytes([number]) * size) for number, size in enumerate((1, 900, 4096, 4097, 9_000, 20_000, 33_000) * 3)]
PICKS = st.integers(0, len(BLOCKS) - 1)
LIMITS = st.sampled_from([32_768, 65_536, 131_072])


class WatchedDisk(Disk):
    """Adds up what lies there at every call that changes it; writes fail while it is told to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.limit = 0
        self.fails = False

    def create(self, name: Any, folder: int, mode: int = 0o400) -> int:
        self._check_bound()
        return super().create(name, folder, mode)

    def write(self, fd: int, data: Any) -> int:
        self._check_bound()
        if self.fails:
            os.write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "planned")
        return super().write(fd, data)

    def rename(self, *args: Any) -> None:
        self._check_bound()
        super().rename(*args)
        self._check_bound()

    def _check_bound(self) -> None:
        assert sum(map(charge_of, files(self.root).values())) <= self.limit


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="graviton-cache-"))
        self.loop = asyncio.Runner()
        self.inner = CountingBlocks({one.key: bytes(one.payload) for one in BLOCKS[::2]})
        self.disk = WatchedDisk(self.root)

    def run_(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run(call)

    @initialize(limit=LIMITS)
    def begin(self, limit: int) -> None:
        self._open(limit)

    def _open(self, limit: int) -> None:
        async def opened() -> Cached:
            store = Cached(self.root, CountingBlocks(self.inner.blocks), limit=limit, disk=self.disk)
            await store.cache.read(BLOCKS[0].key)
            await store.cache.settled()
            return store

        self.disk.limit = limit
        self.store = self.run_(opened())
        self._look()

    def _look(self) -> None:
        """What is counted is what lies there, at most the limit."""
        policy = self.store.keeper.policy
        found = files(self.root)
        assert policy.used >= sum(map(charge_of, found.values()))
        assert policy.used <= policy.limit
        assert not any(name.startswith(".fill") for name in found)

    async def _read(self, *picks: int) -> None:
        async def one(pick: int) -> None:
            wanted = BLOCKS[pick]
            is_below = wanted.key in self.inner.blocks
            try:
                data = await self.store.get(wanted.key)
            except NotFound:
                assert not is_below
            else:
                assert data == wanted.payload

        await asyncio.gather(*map(one, picks))
        await self.store.cache.settled()

    @rule(picks=st.lists(PICKS, min_size=1, max_size=12))
    def read(self, picks: list[int]) -> None:
        self.run_(self._read(*picks))
        self._look()

    @rule(pick=PICKS)
    def put(self, pick: int) -> None:
        self.run_(self.store.put_blocks([BLOCKS[pick]]))
        assert self.inner.blocks[BLOCKS[pick].key] == BLOCKS[pick].payload

    @rule(pick=PICKS)
    def collect(self, pick: int) -> None:
        key = BLOCKS[pick].key
        self.inner.blocks.pop(key, None)
        assert self.run_(self.store.exists(key)) is False

    @rule(pick=st.integers(0, 100), how=st.sampled_from(["flip", "empty", "cut", "remove"]))
    def damage(self, pick: int, how: str) -> None:
        entries = sorted(self.root.glob("blocks/blake3/*.cached"))
        if entries:
            path = entries[pick % len(entries)]
            data = path.read_bytes()
            path.unlink()
            if how != "remove":
                path.write_bytes({"flip": bytes(byte ^ 1 for byte in data), "empty": b"", "cut": data[:-1]}[how])

    @rule(fails=st.booleans())
    def fill_disk(self, fails: bool) -> None:
        self.disk.fails = fails

    @rule(limit=LIMITS, index=st.sampled_from(["kept", "lost", "damaged"]), clean=st.booleans())
    def restart(self, limit: int, index: str, clean: bool) -> None:
        old = self.store
        if not clean:
            old.keeper._changes.clear()  # what a crash would have lost
        self.run_(old.aclose())
        path = old.folder.index_path
        if index == "lost":
            path.unlink(missing_ok=True)
        elif index == "damaged":
            path.write_bytes(b"damaged" * 1000)
        (self.root / "blocks/blake3").mkdir(parents=True, exist_ok=True)
        if not clean:
            (self.root / f"blocks/blake3/.fill-{'0' * 24}").write_bytes(b"half")
        self._open(limit)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run_(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.root)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(stateful_step_count=25, max_examples=40)
