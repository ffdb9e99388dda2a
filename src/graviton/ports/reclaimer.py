"""`BlockReclaimer`: the few operations that take blocks away, kept apart from the store that everybody uses.

Only garbage collection moves and purges; reads only look. A block is never deleted in place: it is moved to a trash
name that is new for every move, can be read and put back from there, and is purged later (docs/block-life.md).

Laws:
- `move_to_trash` of a block that is there makes `BlockStore.get` raise NotFound and `read_trash` return its bytes; of
  one that is not there it returns None. Two moves of the same key never share a name.
- `put_back` makes the block readable under its key again and removes the entry; where the entry is gone it returns
  False. It verifies first: an entry whose bytes are wrong raises IntegrityError and stays, and whatever lies under the
  key stays too. It may overwrite a block that lies there: the bytes are equal then.
- `trash_entries(key)` lists the entries of one key, newest last; without a key all entries of the store.
- `read_trash` verifies like `get`: NotFound when the entry is gone, IntegrityError when its bytes are wrong.
- `purge` removes an entry for good; True if it was there. It touches nothing else, ever; nor does `purge_many`.
- `moved_at_ns` comes from the caller and is part of the name: no file time is ever consulted.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.errors import InvalidInput

__all__ = ["BlockReclaimer", "TrashEntry"]

_NAME = re.compile(r"(0|[1-9][0-9]{0,19})-([0-9a-f]{1,64})")
_TOKEN_BYTES = 8
"""64 random bits per move: no two processes ever choose the same name."""


class TrashEntry(NamedTuple):
    """One moved copy of a block."""

    key: BlockKey
    moved_at_ns: int
    """UTC nanoseconds, given by the collector that moved it."""
    token: str
    """Random text that makes the name unique: lowercase hex."""

    @classmethod
    def new(cls, key: BlockKey, moved_at_ns: int) -> TrashEntry:
        """The entry of a move that begins now. Raises InvalidInput for a time before 1970."""
        if moved_at_ns < 0:
            raise InvalidInput(f"the time of a move is 0 or more, not {moved_at_ns}", subject=key.text)
        return cls(key, moved_at_ns, secrets.token_hex(_TOKEN_BYTES))

    @classmethod
    def parse(cls, key: BlockKey, name: str) -> TrashEntry | None:
        """The entry of `key` called `name`; None for any other name."""
        match = _NAME.fullmatch(name)
        return cls(key, int(match[1]), match[2]) if match else None

    @property
    def name(self) -> str:
        """`<moved-at>-<random>`, its name in the trash folder of its key; a stored format."""
        return f"{self.moved_at_ns}-{self.token}"


class BlockReclaimer(ABC):
    """Moves blocks to trash and back; see the module docstring for the laws."""

    @abstractmethod
    async def move_to_trash(self, key: BlockKey, moved_at_ns: int) -> TrashEntry | None:
        """Take the block away from its name. Raises Unavailable, PermissionDenied, StorageFull."""

    @abstractmethod
    async def put_back(self, entry: TrashEntry) -> bool:
        """Give the block its name back; False if the entry is gone. Raises IntegrityError if its bytes are wrong."""

    @abstractmethod
    def trash_entries(self, key: BlockKey | None = None) -> AsyncIterator[TrashEntry]:
        """Entries of `key`, oldest first, or of all keys in no promised order."""

    @abstractmethod
    async def read_trash(self, entry: TrashEntry) -> bytes:
        """The verified bytes of an entry. Raises NotFound, IntegrityError."""

    @abstractmethod
    async def purge(self, entry: TrashEntry) -> bool:
        """Remove an entry for good; False if it was not there."""

    async def purge_many(self, entries: Sequence[TrashEntry]) -> None:
        """Remove entries for good, whether they are there or not; in few requests where the backend can."""
        for entry in entries:
            await self.purge(entry)
