"""`BlockIndex`: which blocks are stored, and who relies on them. The authority; docs/block-life.md has the protocol.

Words. An *owner* may hold blocks: a session while *open*, a *committed* manifest, or one that is *dropped* (deleted) or
*ended* (aborted, expired). A *claim* is the reference row (block, owner). A block's record is `pending`, `stored`,
`condemned` or `damaged`; no record means unknown.

Laws:
- `open` starts one session per batch and claims the batch for it, all in one transaction. Claims say for each key, in
  the order given, whether the caller must write the block: not when it is `stored`, or when this session claimed it
  before; otherwise yes, and its record is `pending` under a new generation until somebody confirms.
- `confirm` after the bytes are durable: turns this session's own claims that had to be written to `stored`. It never
  creates a record, and confirming twice changes nothing. Keys that the session does not hold raise Conflict.
- `claim`, `confirm`, `add_pages` and `commit` on a session that is not open raise Conflict: ended is final.
- `end` is final and safe at any time: it drops the session's claims and touches no block. Ending twice changes nothing;
  ending a committed owner raises Conflict.
- Claims need not be durable; losing one with its session leaves at most a stray block. Everything else is.
- `mark_damaged(key, generation)` acts only while the record still has that generation: a block rewritten meanwhile
  keeps its good name.
- `references` yields the owners, of any state, that hold a claim on a block.
- Nothing is shared between domains.

Laws of collecting, which works on all domains at once. Every step is a transaction of bounded size of its own; whoever
stops between two leaves nothing half done, and several collectors may work at the same time.
- `end_expired` turns open sessions whose time is past to ended, and does nothing else. One that commits at that moment
  is committed or ended, never both; one that gave a sign of life is left alone.
- `release` takes claims, pages and holders away from ended owners, and from owners dropped at least `undelete_seconds`
  ago, which from the first step on cannot be turned back. Every block that lost a claim becomes a candidate. Owners
  that have nothing left are removed when their last change of state is `OWNER_KEPT_SECONDS` ago, the record of a
  deleted blob with its owner, unless a later put of the blob has made it name another one.
- `condemn` looks at some candidates and takes them off the list. Those that nobody holds, whatever their state, become
  `condemned` under a new generation, and a note (run, block, generation) says so, durably, before it returns. A block
  that is held, by an owner of any state, never becomes condemned, and none that is condemned is ever relied on.
- A run has `MAX_OPEN_NOTES` notes at most. `condemn` returns all of its run, so it can be repeated after a lost reply.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.ports.capabilities import Capabilities

__all__ = [
    "MAX_OPEN_NOTES",
    "OWNER_KEPT_SECONDS",
    "BlockIndex",
    "BlockRecord",
    "BlockState",
    "Claim",
    "Condemned",
    "Note",
    "OpenedSession",
    "OwnerRecord",
    "OwnerState",
    "Released",
]

MAX_OPEN_NOTES = 256
"""Notes of one run: what a collector that dies or freezes may leave to be looked at again, and more than it can move
in a second."""

OWNER_KEPT_SECONDS = 86_400.0
"""The row of an owner stays for a day after its last change of state, so that a lost reply is resolved by looking."""


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


class Released(NamedTuple):
    """What one step of `release` did."""

    claims: int
    pages: int
    owners: int
    """Owners removed."""


class Note(NamedTuple):
    """A run of garbage collection condemned a block, and has not come to the end of it."""

    run: str
    domain: str
    key: BlockKey
    generation: int
    """Of the condemned record: with another one, the block has lived again since."""
    noted_at_ns: int
    """UTC nanoseconds."""


class Condemned(NamedTuple):
    """The outcome of condemning."""

    notes: list[Note]
    """All notes of the run, in the order of domains and keys."""
    more: bool
    """There may be candidates that were not looked at."""


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
        """Say that the claimed blocks `keys` are durable. Raises Conflict."""

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

    @abstractmethod
    def end_expired(self) -> AsyncIterator[int]:
        """End open sessions whose `expires_at_ns` is past; each that was ended, as it goes."""

    @abstractmethod
    def release(self, undelete_seconds: float) -> AsyncIterator[Released]:
        """Take claims, pages and holders away from owners that are gone, and remove those that are empty; what each
        step did. Raises InvalidInput for a negative time."""

    @abstractmethod
    async def condemn(self, run: str, limit: int = MAX_OPEN_NOTES) -> Condemned:
        """Look at up to `limit` candidates, fewer if the run has not so many notes left. `run` is 32 hexadecimal
        digits, new for every collector. Raises InvalidInput."""

    @abstractmethod
    def notes(self, run: str | None = None) -> AsyncIterator[Note]:
        """The notes of a run, or of all, in the order of domains, keys and runs."""
