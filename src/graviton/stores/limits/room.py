"""What is asked for on the way of a blob into the store, and how large one may be."""

from __future__ import annotations

from typing import Protocol

from graviton.core.keys import BlobKey
from graviton.errors import LimitExceeded

__all__ = ["Pace", "Room", "check_size"]


class Pace(Protocol):
    """Waits until bytes may come."""

    piece: int
    """How many to take at once."""

    async def take(self, count: int) -> None:
        """Wait for `count` of them."""
        ...


class Room(Protocol):
    """What a put asks between its first byte and its commit."""

    def check_fresh(self) -> None:
        """Blocks that are not there are about to be written. Raises StorageFull."""
        ...

    async def promise(self, key: BlobKey) -> None:
        """Every block is durable, and the blob becomes visible next. Raises StorageFull."""
        ...


def check_size(size: int, max_bytes: int | None) -> None:
    """Raise LimitExceeded for a blob that is larger than one may be."""
    if max_bytes is not None and size > max_bytes:
        raise LimitExceeded(
            f"a blob has at most {max_bytes} bytes here",
            operation="put",
            hint="Put it in parts, or raise the limit of whoever takes it.",
        )
