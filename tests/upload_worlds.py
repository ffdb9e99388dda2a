"""Uploads over a store in memory, with handles on everything below, and what must be left of them: nothing."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from graviton.assembly import uploads as assembly
from graviton.assembly.limits import spill_of
from graviton.assembly.store import Store
from graviton.backends.memory.objects import InMemoryMutableObjectStore
from graviton.constraints.budget import ByteBudget
from graviton.constraints.spill import Spill, SpillPolicy
from graviton.core.chunking import Kernel
from graviton.core.clock import Clock
from graviton.core.keys import BlobKey
from graviton.metadata.range_tracker import KvRangeTracker
from graviton.metadata.rows import OWNERS, RANGE_HEADS, RANGES, OwnerRow
from graviton.metadata.upload_rows import UPLOAD_NAMESPACES
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import KeyValueStore
from graviton.ports.objects import MutableObjectStore
from graviton.services.uploads import Uploads
from graviton.services.uploads.held import HeldBytes
from graviton.services.uploads.kit import Kit, Sizes
from graviton.services.uploads.parts import PartPlace, PartStore
from graviton.services.uploads.quota import Reservations, UploadQuota
from graviton.stores.cas import CasBlobStore
from tests.support import World

__all__ = ["TINY", "UploadWorld", "left_over", "open_uploads", "pieces", "read"]

TINY = Sizes(checkpoint_bytes=16 * 1024, lazy_bytes=512, backlog_bytes=24 * 1024, tail_parts=6)
"""So that some ten thousand bytes go every way there is; blocks have about 1 KiB."""


async def open_uploads(store: Store, **options: Any) -> Uploads:
    """The uploads of a store that somebody else closes. Little spills in tests: what does goes with the process."""
    spill = spill_of(store.settings, ByteBudget())
    return await assembly.open_uploads(store, spill=spill, **options)


async def pieces(data: bytes, size: int = 1500, error: BaseException | None = None) -> AsyncIterator[bytes]:
    """`data` as it comes from a network, which breaks with `error` then."""
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]
    if error is not None:
        raise error


class UploadWorld(World):
    """A store in memory, and services for its uploads: as many as there are servers."""

    def __init__(
        self, kernel: Kernel, *, clock: Clock | None = None, objects: MutableObjectStore | None = None, **more: Any
    ) -> None:
        if clock is not None:
            more["clock"] = clock
        super().__init__(kernel, **more)
        self.objects = objects if objects is not None else InMemoryMutableObjectStore()
        self.clock = clock
        self.quota: UploadQuota | None = None

    def server(self, sizes: Sizes = TINY, **options: Any) -> Uploads:
        """One more server."""
        return Uploads(self.kit(sizes), **options)

    def kit(self, sizes: Sizes = TINY) -> Kit:
        """What a server works with."""
        store: CasBlobStore = self.store
        pool, budget = store.parts.pool, store.parts.budget
        parts = PartStore(PartPlace(self.objects, "memory", "default", is_shared=True), budget, pool)

        spill = Spill(SpillPolicy(64 * 1024, 1 << 30, Path(tempfile.gettempdir()) / "graviton-tests-spill"), budget)
        held = HeldBytes(self.kv, parts, store.access, budget)
        tracker = KvRangeTracker(self.kv)
        return Kit(
            self.kv, store.parts, store.access, tracker, parts, held, store.reporter, store.defaults, spill.buffer,
            Reservations(self.quota), None, sizes,
        )  # fmt: skip

    async def parts(self) -> list[str]:
        """Paths of the objects there are."""
        return [found.locator.path async for found in self.objects.list()]

    async def read(self, key: BlobKey) -> bytes:
        """A blob."""
        return await read(self.store, key)

    async def left_over(self) -> list[str]:
        """What uploads have left behind; open sessions included."""
        return await left_over(self.kv, self.objects)

    async def aclose(self) -> None:
        """Close the store."""
        await self.store.aclose()


async def read(store: Any, key: BlobKey) -> bytes:
    """A blob of any store."""
    async with await store.get(key) as reader:
        data: bytes = await reader.read()
    return data


async def left_over(
    kv: KeyValueStore, objects: MutableObjectStore, namespaces: Iterable[str] = UPLOAD_NAMESPACES
) -> list[str]:
    """Rows, ranges, objects and open sessions."""
    found = [f"{name} {key.hex()}" for name in (*namespaces, RANGES, RANGE_HEADS) async for key, _ in kv.scan(name)]
    found += [f"object {stat.locator}" async for stat in objects.list()]
    async for key, data in kv.scan(OWNERS):
        if OwnerRow.decode(data).state is OwnerState.OPEN:
            found.append(f"open session {key.hex()}")
    return found
