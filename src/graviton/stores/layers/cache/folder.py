"""`CacheFolder`: what the cache needs of a disk. `backends/filesystem/cache_folder.py` has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from graviton.core.keys import BlockKey
from graviton.errors import GravitonError

__all__ = ["CacheFolder"]


class CacheFolder(Protocol):
    """Blocks as files, one folder for any number of processes, of which one at a time owns it: only the owner may call
    `scan`, `write` and `remove`. Every method blocks; errors are ours. Nothing is durable, and nothing need be."""

    def read(self, key: BlockKey) -> bytes | None:
        """The verified bytes of an entry, or None if there is none. Raises IntegrityError if what lies there is
        something else; PermissionDenied, Unavailable."""
        ...

    def holds(self, key: BlockKey) -> bool:
        """Whether an entry lies there, right or not."""
        ...

    def own(self) -> bool:
        """Become the owner, making the folder if need be; False while another process is. Raises PermissionDenied,
        StorageFull, Unavailable."""
        ...

    def disown(self) -> None:
        """Let another process be the owner. Idempotent."""
        ...

    def scan(self, trouble: Callable[[GravitonError], object]) -> Iterator[BlockKey]:
        """Every entry by its name, in no order. What a crash left unfinished is removed on the way; `trouble` is told
        of what cannot be."""
        ...

    def write(self, key: BlockKey, data: bytes) -> None:
        """Make an entry, whole or not at all, over whatever lies there. Raises StorageFull, PermissionDenied,
        Unavailable."""
        ...

    def remove(self, key: BlockKey) -> None:
        """Take an entry away, whether it is there or not."""
        ...
