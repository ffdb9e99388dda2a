"""`BlockStore`: content-addressed blocks.

Laws (the conformance suite `graviton.testing.conformance.blocks` checks each one):

- `put_blocks` returns when every block of the batch is stored as durably as `capabilities` says, or raises and leaves
  nothing half visible: a block is either absent or whole. Blocks written before the failure may stay.
- Putting a block that is there already is harmless: same bytes, same place, any number of writers at once.
- The result lists the blocks in the order given, repeats included, and its manifest lays them end to end. With
  `plan.frames` it has one plain frame per block, in the same order; without it none. An empty batch is nothing.
- With `WriteMode.IF_ABSENT` a block that is already stored, or came earlier in the batch, is DUPLICATE and is not
  written again; with `WriteMode.ALWAYS` every distinct block is written over whatever lies there and is FRESH (repeats
  within the batch are DUPLICATE). The block index decides which blocks need that; the store obeys.
- A payload whose length differs from `key.size`, and a session tag of other characters than it may have, is refused
  (InvalidInput) before anything is written. The digest is the caller's promise: the kernel has just computed it from
  the same memory.
- `get` returns exactly the bytes of the key or raises: NotFound when there is no such block, IntegrityError when what
  lies there is something else. It never returns wrong bytes.
- Only "not there" means absent. An error of the backend is never taken for absence.
- `list` yields every key whose path name `<algo>/<hex>-<size>` begins with `prefix`, once, in no promised order;
  foreign and temporary files are not listed. Blocks put or moved while it runs may or may not appear.
- Cancelling a call leaves no visible effect other than whole blocks, and no temporary files.
- The caller owns the payload buffers and keeps them unchanged until the call returns; the store keeps no reference.
  Where the call raises, a server far away may still be sent from them: they are dropped then, never filled again.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import NamedTuple

from graviton.core.buffers import Buffer
from graviton.core.frames import BlockFrame, BlockFramer
from graviton.core.keys import BlockKey
from graviton.core.manifests import BlockManifest
from graviton.errors import InvalidInput
from graviton.ports.capabilities import Capabilities

__all__ = [
    "DEFAULT_WRITE_PLAN",
    "BlockBatchResult",
    "BlockStatus",
    "BlockStore",
    "BlockWritePlan",
    "CanonicalBlock",
    "StoredBlock",
    "WriteMode",
    "check_batch",
]

_SESSION_TAG = re.compile(r"[A-Za-z0-9-]*")


class BlockStatus(Enum):
    """What a put did with one block."""

    FRESH = "fresh"
    """Its bytes were written."""
    DUPLICATE = "duplicate"
    """It was there already, or came earlier in the same batch."""


class WriteMode(Enum):
    """Who decides whether a block is written."""

    IF_ABSENT = "if_absent"
    """The store looks whether it has the block."""
    ALWAYS = "always"
    """The caller knows that it must be written, over whatever lies there."""


class CanonicalBlock(NamedTuple):
    """A block with its key. `payload` has exactly `key.size` bytes."""

    key: BlockKey
    payload: Buffer


class StoredBlock(NamedTuple):
    """The outcome for one block of a batch."""

    key: BlockKey
    status: BlockStatus


class BlockWritePlan(NamedTuple):
    """How a batch is to be written."""

    mode: WriteMode = WriteMode.IF_ABSENT
    session: str = ""
    """Tag of the writing session, part of temporary names so that garbage collection can tell whose they are;
    letters, digits and `-`."""
    frames: bool = False
    """Whether the result carries the batch's frames as values."""


DEFAULT_WRITE_PLAN = BlockWritePlan()
"""Write what is absent."""


class BlockBatchResult(NamedTuple):
    """What one `put_blocks` did."""

    manifest: BlockManifest
    stored: tuple[StoredBlock, ...]
    frames: tuple[BlockFrame, ...] = ()

    @classmethod
    def of(cls, stored: Sequence[StoredBlock], plan: BlockWritePlan) -> BlockBatchResult:
        """The result of a batch whose blocks ended as `stored`, in the order given: lays out manifest and frames."""
        frames: tuple[BlockFrame, ...] = ()
        if plan.frames:
            framer = BlockFramer()
            frames = tuple(framer.frame(block.key) for block in stored)
        return cls(BlockManifest.of([block.key for block in stored]), tuple(stored), frames)

    @property
    def fresh_bytes(self) -> int:
        """Bytes written."""
        return sum(block.key.size for block in self.stored if block.status is BlockStatus.FRESH)


class BlockStore(ABC):
    """Stores blocks under their keys; see the module docstring for the laws."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        """Store a batch. Raises InvalidInput, StorageFull, PermissionDenied, Unavailable."""

    @abstractmethod
    async def get(self, key: BlockKey) -> bytes:
        """The verified bytes of a block. Raises NotFound, IntegrityError, Unavailable, PermissionDenied."""

    @abstractmethod
    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        """For each key whether a block lies under it (its bytes are not read)."""

    async def exists(self, key: BlockKey) -> bool:
        """Whether a block lies under `key` (its bytes are not read)."""
        return (await self.exists_many([key]))[0]

    @abstractmethod
    def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        """All keys whose path name `<algo>/<hex>-<size>` begins with `prefix`."""

    async def aclose(self) -> None:
        """Give back threads and handles. Idempotent; using the store afterwards raises Unavailable."""


def check_batch(blocks: Sequence[CanonicalBlock], plan: BlockWritePlan) -> None:
    """Raise InvalidInput for what every store refuses before it writes; shared, so that all refuse the same."""
    if not _SESSION_TAG.fullmatch(plan.session):
        raise InvalidInput(f"a session tag has letters, digits and '-', unlike {plan.session[:80]!r}")
    for key, payload in blocks:
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if size != key.size:
            raise InvalidInput(f"the payload of block {key.text} has {size} bytes", subject=key.text)
