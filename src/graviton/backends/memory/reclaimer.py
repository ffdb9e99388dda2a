"""`InMemoryBlockReclaimer`: the reference for `BlockReclaimer`, on the same object as `InMemoryBlockStore`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from graviton.backends.memory.blocks import InMemoryBlockStore, verified
from graviton.core.keys import BlockKey
from graviton.errors import NotFound
from graviton.ports.reclaimer import BlockReclaimer, TrashEntry

__all__ = ["InMemoryBlockReclaimer"]


class InMemoryBlockReclaimer(BlockReclaimer):
    """Moves blocks of `store` to its trash and back."""

    def __init__(self, store: InMemoryBlockStore) -> None:
        self._store = store

    async def move_to_trash(self, key: BlockKey, moved_at_ns: int) -> TrashEntry | None:
        self._store.check_open()
        data = self._store.blocks.pop(key, None)
        if data is None:
            return None
        entry = TrashEntry.new(key, moved_at_ns)
        self._store.trash[entry] = data
        return entry

    async def put_back(self, entry: TrashEntry) -> bool:
        self._store.check_open()
        data = self._store.trash.get(entry)
        if data is None:
            return False
        self._store.blocks[entry.key] = verified(entry.key, data)
        del self._store.trash[entry]
        return True

    async def trash_entries(self, key: BlockKey | None = None) -> AsyncIterator[TrashEntry]:
        self._store.check_open()
        for entry in sorted(self._store.trash, key=lambda entry: entry.moved_at_ns):
            if key is None or entry.key == key:
                yield entry

    async def read_trash(self, entry: TrashEntry) -> bytes:
        self._store.check_open()
        data = self._store.trash.get(entry)
        if data is None:
            raise NotFound(f"block {entry.key.text} is not in the trash", operation="trash", subject=entry.key.text)
        return verified(entry.key, data)

    async def purge(self, entry: TrashEntry) -> bool:
        self._store.check_open()
        return self._store.trash.pop(entry, None) is not None
