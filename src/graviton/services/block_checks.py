"""Blocks under verification: read in parallel and handed out in order, within the memory budget, and remembered.

Blobs share blocks. What one run has found out about a block is kept in a fixed amount of memory: sound ones as
fingerprints in a table whose slots are overwritten when it is full, so that in a store of any size a block is at worst
looked at again; damaged ones by name, up to a number that no store with hope has.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeAlias

from graviton.constraints.budget import ByteBudget
from graviton.core.keys import BlockKey
from graviton.core.manifests import ManifestEntry
from graviton.errors import GravitonError, IntegrityError, Unavailable
from graviton.ports.blocks import BlockStore
from graviton.stores.block_access import BlockAccess

__all__ = ["BlockChecks", "StoredSizes"]

StoredSizes: TypeAlias = Callable[[Sequence[BlockKey]], Awaitable[list[int | None]]]
"""Bytes that lie under each key; None where there is nothing, or something that is no file."""

WINDOW_BLOCKS = 4
"""Blocks in flight per stream: with four streams enough for both cores and a disk's queue."""

WINDOW_BYTES = 16 * 1024 * 1024
"""Bytes in flight per stream, beyond the first block; four streams then leave half of the default budget to others."""

_SLOTS = 1 << 21
"""Fingerprints kept, 16 MiB: enough for 2 TiB of blocks of 1 MiB."""

_MAX_BAD = 100_000
"""Damaged blocks remembered, about 20 MB; those beyond are looked at again for every blob that has them."""

_GIVE_UP_AFTER = 100
"""Blocks in a row that a backend fails to answer for, after which the backend is taken for gone and not the blocks."""


class BlockChecks:
    """What one run knows of the blocks of one domain. Problems are verb phrases, as in `Damage.problem`."""

    def __init__(
        self,
        blocks: BlockStore,
        access: BlockAccess,
        budget: ByteBudget,
        domain: str,
        sizes: StoredSizes | None = None,
    ) -> None:
        """`sizes` tells what lies under keys without reading it; without it a quick look sees only absence."""
        self._blocks, self._access, self._budget, self._domain = blocks, access, budget, domain
        self._sizes = sizes
        # Mapped, so that a small run takes neither the memory of the whole table nor the time to fill it with zeros.
        self._sound = memoryview(mmap.mmap(-1, 8 * _SLOTS)).cast("Q")
        self._bad: dict[BlockKey, str] = {}
        self._silent = 0
        self.looked_at = 0
        """Blocks found sound or damaged for the first time."""
        self.read_bytes = 0

    def is_sound(self, key: BlockKey) -> bool:
        """Whether the block was found sound; False may also mean that this was forgotten."""
        slot, mark = _fingerprint(key)
        return self._sound[slot] == mark

    def is_known_bad(self, key: BlockKey) -> bool:
        """Whether the block was found damaged before."""
        return key in self._bad

    async def in_order(
        self, entries: Iterable[ManifestEntry]
    ) -> AsyncGenerator[tuple[ManifestEntry, bytes | str], None]:
        """Every entry with its verified bytes, or with what is wrong with its block, in order; valid until the next
        step. Equal blocks close to each other are read once. Use with `aclosing`."""
        window = _Window(self._budget)
        left = iter(entries)
        upcoming = next(left, None)
        try:
            while upcoming is not None or window.queue:
                while upcoming is not None and await window.has_room(upcoming.key):
                    window.add(upcoming, self._read)
                    upcoming = next(left, None)
                entry, task = window.queue.popleft()
                yield entry, await task
                window.release(entry.key)
        finally:
            await window.aclose()

    async def _read(self, key: BlockKey) -> bytes | str:
        if key in self._bad:
            return self._bad[key]
        try:
            data = await self._access.read(key, self._domain)
        except GravitonError as error:
            return self._note_bad(key, error)
        self._silent = 0
        self.read_bytes += len(data)
        self._note_sound(key)
        return data

    async def missing(self, keys: Sequence[BlockKey]) -> dict[BlockKey, str]:
        """Which of `keys` are not there in their size, and what is wrong with each; no bytes are read but theirs."""
        problems = {key: self._bad[key] for key in keys if key in self._bad}
        unknown = list({key: None for key in keys if key not in problems and not self.is_sound(key)})
        there = await self._lie_there(unknown)
        for key, exists in zip(unknown, there, strict=True):
            if exists:
                self._note_sound(key)
                continue
            # One look proves nothing, the block may be on its way to the trash or back: reading it is the rule.
            await self._budget.acquire(key.size)
            try:
                found = await self._read(key)
            finally:
                self._budget.release(key.size)
            if isinstance(found, str):
                problems[key] = found
        return problems

    async def _lie_there(self, keys: list[BlockKey]) -> list[bool]:
        if self._sizes is None:
            return await self._blocks.exists_many(keys)
        return [size == key.size for key, size in zip(keys, await self._sizes(keys), strict=True)]

    def _note_sound(self, key: BlockKey) -> None:
        slot, mark = _fingerprint(key)
        if self._sound[slot] != mark:
            self._sound[slot] = mark
            self.looked_at += 1

    def _note_bad(self, key: BlockKey, error: GravitonError) -> str:
        if isinstance(error, IntegrityError):
            self._silent = 0
            # The message begins with the block, which is named anyway.
            problem = error.message.removeprefix(f"block {key} ")
        else:
            self._silent += 1
            if isinstance(error, Unavailable) and self._silent > _GIVE_UP_AFTER:
                raise error
            problem = f"cannot be read: {error.message}"
        self.looked_at += 1
        if len(self._bad) < _MAX_BAD:
            self._bad[key] = problem
        return problem


_Read: TypeAlias = Callable[[BlockKey], Coroutine[Any, Any, bytes | str]]


def _fingerprint(key: BlockKey) -> tuple[int, int]:
    """Slot and mark: 85 bits of a cryptographic digest, so no two blocks of a store are ever taken for each other."""
    raw = key.digest.raw
    return int.from_bytes(raw[8:12], "big") % _SLOTS, int.from_bytes(raw[:8], "big") or 1


class _Window:
    """Blocks on their way, oldest first; draws the size of every distinct one from the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self.queue: deque[tuple[ManifestEntry, asyncio.Task[bytes | str]]] = deque()
        self._budget = budget
        self._tasks: dict[BlockKey, asyncio.Task[bytes | str]] = {}
        self._users: dict[BlockKey, int] = {}
        self._held = 0

    async def has_room(self, key: BlockKey) -> bool:
        """Whether one more may be added now; waits only while nothing is held, so that streams never block each other
        for ever."""
        if len(self.queue) >= WINDOW_BLOCKS:
            return False
        if key in self._tasks:
            return True
        if not self._held:
            await self._budget.acquire(key.size)
        elif self._held + key.size > WINDOW_BYTES or not self._budget.try_acquire(key.size):
            return False
        self._held += key.size
        return True

    def add(self, entry: ManifestEntry, read: _Read) -> None:
        """Add what there is room for."""
        key = entry.key
        if key not in self._tasks:
            self._tasks[key] = asyncio.ensure_future(read(key))
        self._users[key] = self._users.get(key, 0) + 1
        self.queue.append((entry, self._tasks[key]))

    def release(self, key: BlockKey) -> None:
        """Say that the bytes of one entry of `key` are used no more."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key], self._tasks[key]
            self._held -= key.size
            self._budget.release(key.size)

    async def aclose(self) -> None:
        """Stop reading and give the memory back."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # retrieved, so that it is not reported as lost
        held, self._held = self._held, 0
        if held:
            self._budget.release(held)
