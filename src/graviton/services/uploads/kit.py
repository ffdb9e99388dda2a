"""What everything about uploads works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeAlias, TypeVar

from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Conflict, NotFound
from graviton.metadata.upload_rows import UPLOAD_PLACE, UPLOADS, UploadRow
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.range_tracker import RangeTracker
from graviton.services.uploads import records
from graviton.services.uploads.held import HeldBytes
from graviton.services.uploads.parts import PartStore
from graviton.services.uploads.quota import Reservations
from graviton.services.uploads.spill import OpenSpill
from graviton.services.uploads.values import UploadId
from graviton.stores.block_access import BlockAccess
from graviton.stores.intake import Parts
from graviton.stores.reporting import PutReporter
from graviton.stores.results import CasDefaults

__all__ = ["LEASE_LIFETIMES", "Kit", "Pace", "Sizes", "range_locator"]

_T = TypeVar("_T")

Pace: TypeAlias = Callable[[int], Awaitable[None]]

LEASE_LIFETIMES = 2
"""A session lives so many lifetimes of its upload after the last call that renews it: so only one sign of life in many
has to."""


class Sizes(NamedTuple):
    """How much of what; only tests have others."""

    checkpoint_bytes: int = 64 * 1024 * 1024
    """Bytes after which what is durable is written down: so much is sent again at most after a crash."""
    checkpoint_seconds: float = 30.0
    """The same for slow clients."""
    lazy_bytes: int = 64 * 1024
    """A request that brings no more is put by as it is: to cut it, what is undecided before would be read again."""
    backlog_bytes: int = 2 * MAX_BLOCK_BYTES
    """With more that waits to be cut, what a request brings is put by too: it would have to wait for all of that."""
    tail_parts: int = 64
    """Parts of about one size, or smaller, that are put together as one. Each byte then is put a few times, whatever
    the size of the requests, and no reader has to open more than a few hundred objects."""


def range_locator(id: UploadId) -> Locator:
    """Under which the ranges of an upload are tracked."""
    return Locator(*UPLOAD_PLACE, id)


class Kit(NamedTuple):
    """The ports of one store, and what was built over them."""

    kv: KeyValueStore
    """The metadata store itself: its transactions decide."""
    put: Parts
    """What a put into the store works with."""
    access: BlockAccess
    tracker: RangeTracker
    parts: PartStore
    held: HeldBytes
    reporter: PutReporter
    defaults: CasDefaults
    open_spill: OpenSpill
    reservations: Reservations = Reservations()
    pace: Pace | None = None
    """Waits until so many bytes may come; None for no limit."""
    sizes: Sizes = Sizes()

    @property
    def metrics(self) -> MetricsRegistry:
        """Where all of it is counted."""
        return self.reporter.metrics

    def now_ns(self) -> int:
        """The time of day."""
        return self.put.clock.now_ns()

    async def decide(self, fn: Callable[[Transaction], _T]) -> _T:
        """A transaction that is durable when this returns, and everything before it."""
        return await self.kv.transact(fn)

    async def note(self, fn: Callable[[Transaction], _T]) -> _T:
        """A transaction that everybody sees, and that a loss of power may take back, with all that came after it."""
        return await self.kv.transact(fn, Durability.RELAXED)

    async def load(self, id: UploadId) -> UploadRow:
        """The row of an upload. Raises NotFound."""
        return await self.kv.read(partial(records.load, id=id))

    async def tell(self, id: UploadId, spans: Iterable[Span]) -> RangeSet:
        """Tell the tracker what the rows hold; all that it knows then. The last step before anybody is told."""
        ranges = await self.tracker.merge_many(range_locator(id), spans)
        if not await self.kv.read(partial(_exists, id=id)):  # it went meanwhile, perhaps after its ranges had
            await self.tracker.clear(range_locator(id))
        return ranges

    async def keep_session(self, id: UploadId, row: UploadRow) -> None:
        """Let the session of an upload, and its room, live as long as the upload does after a sign of life that came
        from elsewhere."""
        if row.session and row.leased_to_ns >= row.expires_at_ns:
            return
        await self.reservations.renew(id)  # which lives as long as a session
        if not row.session:
            return
        try:
            await self.put.block_index.confirm(row.session, [])
        except Conflict:
            return  # it has ended: the next writer makes another one
        leased_to_ns = self.now_ns() + LEASE_LIFETIMES * row.lifetime_ns
        await self.note(partial(_leased, id=id, session=row.session, leased_to_ns=leased_to_ns))

    async def give_room_back(self, id: UploadId, row: UploadRow) -> None:
        """Of an upload of which nothing comes: to the partial ones that it was made of, as far as they are there."""
        joined = []
        for one in dict.fromkeys(row.wishes.made_of):
            with suppress(NotFound):
                joined.append((UploadId(one), await self.load(UploadId(one))))
        if joined:
            await self.reservations.hand_back(id, joined)
        else:
            await self.reservations.release(id)


def _leased(tx: Transaction, id: UploadId, session: int, leased_to_ns: int) -> None:
    row = records.load(tx, id)
    if row.session == session:
        records.save(tx, id, row._replace(leased_to_ns=leased_to_ns))


def _exists(tx: ReadTransaction, id: UploadId) -> bool:
    return tx.get(UPLOADS, bytes.fromhex(id)) is not None
