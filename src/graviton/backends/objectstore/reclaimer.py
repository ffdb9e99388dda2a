"""`ObjectBlockReclaimer`: moves blocks to `<prefix>.trash/<algo>/<hex>-<size>/<moved-at>-<random>` and back.

A move is a copy, a look at it, and then a delete, so a crash in between leaves two objects, never none. Who calls keeps
a note of the key until the delete was answered, and purges nothing of it meanwhile: a delete that arrives late can be
made good.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from graviton.backends.objectstore.blocks import ObjectBlockStore
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import CasLocatorStrategy
from graviton.errors import InvalidInput, NotFound
from graviton.ports.reclaimer import BlockReclaimer, TrashEntry

__all__ = ["ObjectBlockReclaimer"]

_MAX_DELETES = 1000
"""Objects per request; S3 takes no more. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


class ObjectBlockReclaimer(BlockReclaimer):
    """Takes blocks of `store` away; shares its requests."""

    def __init__(self, store: ObjectBlockStore) -> None:
        self._store = store
        self._driver = store.driver
        prefix = f"{store.layout.prefix}.trash" if store.layout.prefix else ".trash"
        self._layout = CasLocatorStrategy(store.layout.scheme, store.layout.bucket, prefix)

    async def move_to_trash(self, key: BlockKey, moved_at_ns: int) -> TrashEntry | None:
        entry = TrashEntry.new(key, moved_at_ns)
        try:
            await self._driver.copy_to_new(self._store.path(key), self.path(entry), key.text)
        except NotFound:
            return None
        await self._driver.delete([self._store.path(key)], key.text)
        return entry

    async def put_back(self, entry: TrashEntry) -> bool:
        try:
            # A good block may lie there by now; a copy that rotted in the trash must not replace it.
            data = await self.read_trash(entry)
        except NotFound:
            return False
        # Put, not copied: its answer says whether it happened, and the server compares the bytes with their digest.
        await self._driver.put(self._store.path(entry.key), data, entry.key.text)
        await self._driver.delete([self.path(entry)], entry.key.text)
        return True

    async def trash_entries(self, key: BlockKey | None = None) -> AsyncIterator[TrashEntry]:
        self._driver.requests.check_open()
        if key is not None:
            folder = self._layout.block_path(key)
            found = [self._parsed(one.path) async for one in self._driver.list(folder, folder)]
            for known in sorted((one for one in found if one is not None), key=lambda one: one.moved_at_ns):
                yield known
            return
        for algo in HashAlgo:
            folder = f"{self._layout.prefix}/{algo.value}"
            async for one in self._driver.list(folder, folder):
                entry = self._parsed(one.path)
                if entry is not None:
                    yield entry

    def _parsed(self, path: str) -> TrashEntry | None:
        """The entry that lies under `path`; None for what is none."""
        folder, _, name = path.rpartition("/")
        try:
            return TrashEntry.parse(self._layout.parse_path(folder), name)
        except InvalidInput:
            return None

    async def read_trash(self, entry: TrashEntry) -> bytes:
        missing = f"block {entry.key.text} is not in the trash under {entry.name}"
        return await self._store.read(self.path(entry), entry.key, missing)

    async def purge(self, entry: TrashEntry) -> bool:
        was_there = await self._driver.exists(self.path(entry), entry.key.text)
        if was_there:
            await self._driver.delete([self.path(entry)], entry.key.text)
        return was_there

    async def purge_many(self, entries: Sequence[TrashEntry]) -> None:
        for start in range(0, len(entries), _MAX_DELETES):
            some = entries[start : start + _MAX_DELETES]
            await self._driver.delete([self.path(entry) for entry in some], f"{len(some)} blocks in the trash")

    def path(self, entry: TrashEntry) -> str:
        """The name of the object of an entry."""
        return f"{self._layout.block_path(entry.key)}/{entry.name}"
