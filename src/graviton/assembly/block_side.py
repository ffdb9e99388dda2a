"""`BlockSide`: everything of a store that lies beside its metadata."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from graviton.metadata.block_prefix import BlockPlace
from graviton.metadata.marker import MarkerStore
from graviton.ports.blocks import BlockStore
from graviton.ports.reclaimer import BlockReclaimer
from graviton.services.uploads.parts import PartPlace

__all__ = ["BlockSide"]


class BlockSide(NamedTuple):
    """Everything that lies beside the metadata."""

    blocks: BlockStore
    reclaimer: BlockReclaimer
    markers: MarkerStore
    place: BlockPlace | None = None
    """Where blocks are looked for; None where no setting could say it wrong."""
    make: Callable[[], Awaitable[object]] | None = None
    """Make the bucket unless it is there; None where a put makes all that is needed."""
    part_place: Callable[[], PartPlace] | None = None
    """Open the place where parts of uploads wait; None where there is none."""

    async def is_empty(self) -> bool:
        """Whether there is no block at all."""
        async for _ in self.blocks.list():
            return False
        return True
