"""`BlockIndex`: which blocks are stored, and who relies on them. The authority; docs/block-life.md has the protocol.

Words. An *owner* may hold blocks: a session while *open*, a *committed* manifest, or one that is *dropped* (deleted) or
*ended* (aborted, expired). A *claim* is the reference row (block, owner). A block's record is `pending`, `stored`,
`condemned` or `damaged`; no record means unknown.

Laws:
- `open` starts one session per batch and claims the batch for it, all in one transaction. Claims say for each key, in
  the order given, whether the caller must write the block: not when it is `stored`, or when this session claimed it
  before; otherwise yes, and its record is `pending` under a new generation until somebody confirms.
- `confirm` after the bytes are durable: turns this session's own claims that had to be written to `stored`. It never
  creates a record, and confirming twice changes nothing. Keys the session did not claim raise InvalidInput.
- `claim`, `confirm`, `add_pages` and `commit` on a session that is not open raise Conflict: ended is final.
- `end` is final and safe at any time: it drops the session's claims and touches no block. Ending twice changes nothing;
  ending a committed owner raises Conflict.
- Claims need not be durable; losing one leaves at most a stray block. Everything else is.
- `mark_damaged(key, generation)` acts only while the record still has that generation: a block rewritten meanwhile
  keeps its good name.
- `references` yields the owners, of any state, that hold a claim on a block.
- Nothing is shared between domains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.ports.capabilities import Capabilities

__all__ = ["BlockIndex", "BlockRecord", "BlockState", "Claim", "OpenedSession", "OwnerRecord", "OwnerState"]


class BlockState(Enum):
    """State of a block's record; the values are stored."""

    PENDING = 1
    """Claimed by a session that has not confirmed it."""
    STORED = 2
    """Durable under its key."""
    CONDEMNED = 3
    """Without references, on its way out; a claim takes it back."""
    DAMAGED = 4
    """A read found it missing or wrong; the next put of its bytes writes it again."""


class OwnerState(Enum):
    """State of an owner; the values are stored."""

    OPEN = 1
    COMMITTED = 2
    DROPPED = 3
    ENDED = 4


class BlockRecord(NamedTuple):
    """What the index knows of one block."""

    key: BlockKey
    state: BlockState
    generation: int
    """Grows with every change of state but confirm; tells one life of a block from the next."""
    wanted_back: bool = False
    """A read served it from trash while it was `stored`: garbage collection puts it back."""


class Claim(NamedTuple):
    """The outcome of claiming one key."""

    key: BlockKey
    must_write: bool
    """This session writes the block, over whatever lies there."""
    repairs: bool = False
    """The record was `damaged`: writing heals it."""


class OpenedSession(NamedTuple):
    """A new session and the outcome of its first claims."""

    session: int
    claims: list[Claim]


class OwnerRecord(NamedTuple):
    """What the index knows of one owner."""

    owner: int
    state: OwnerState
    unconfirmed: int
    """Claims that must be written and are not confirmed yet."""
    changed_at_ns: int
    """UTC nanoseconds of the last change of state."""
    expires_at_ns: int
    """UTC nanoseconds after which a collector may end an open session; only decides when, never what."""


class BlockIndex(ABC):
    """Sessions, claims and block records; see the module docstring for the laws."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def open(
        self, batches: Sequence[Sequence[BlockKey]], domain: str = "", lifetime_seconds: float = 86_400.0
    ) -> list[OpenedSession]:
        """Start one session per batch and claim its keys. `lifetime_seconds` is renewed by every later call.
        Raises Unavailable, StorageFull."""

    @abstractmethod
    async def claim(self, session: int, keys: Sequence[BlockKey]) -> list[Claim]:
        """Claim more keys for an open session. Raises Conflict."""

    @abstractmethod
    async def confirm(self, session: int, keys: Sequence[BlockKey]) -> None:
        """Say that the claimed blocks `keys` are durable. Raises Conflict, InvalidInput."""

    @abstractmethod
    async def end(self, session: int) -> None:
        """Abort an open session and drop its claims, in bounded batches. Raises Conflict if it was committed."""

    @abstractmethod
    async def owner(self, owner: int) -> OwnerRecord | None:
        """The record of an owner, or None: how a lost reply to a commit is resolved."""

    @abstractmethod
    async def records(self, keys: Sequence[BlockKey], domain: str = "") -> list[BlockRecord | None]:
        """The record of each key, None where unknown."""

    @abstractmethod
    async def mark_damaged(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        """Turn a `stored` record of that generation to `damaged`; whether it was done."""

    @abstractmethod
    async def mark_wanted_back(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        """Leave the mark that a `stored` block of that generation was served from trash; whether it was done."""

    @abstractmethod
    def references(self, key: BlockKey, domain: str = "") -> AsyncIterator[int]:
        """The owners that hold a claim on `key`, ascending."""

    @abstractmethod
    def list(self, domain: str = "", after: BlockKey | None = None) -> AsyncIterator[BlockRecord]:
        """All block records of a domain in key order."""
