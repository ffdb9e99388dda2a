"""How uploads go: terminated, expired, or left behind without a row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from graviton.errors import GravitonError, IntegrityError, InvalidInput, NotFound
from graviton.metadata.upload_rows import UPLOADS, UploadRow, UploadState
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.metrics import MetricKeys
from graviton.services.uploads import counting, records
from graviton.services.uploads.background import is_unfinished, log_failure
from graviton.services.uploads.finishing import end_sessions
from graviton.services.uploads.hash_state import HashStates
from graviton.services.uploads.kit import Kit, range_locator
from graviton.services.uploads.turns import Turns
from graviton.services.uploads.values import Swept, UploadId, parse_upload_id

__all__ = ["Sweeping"]

_ROWS = 200
"""Rows looked at per transaction."""

STALE_SECONDS = 30.0
"""A writer that has not said for so long that it is there is taken for dead by whoever wants to go on with finishing.
Six times what it promises; being wrong costs work, never bytes."""


_JOINED_NS = 600 * 1_000_000_000
"""How long a partial upload stays when what it was put together to is done: the answer may have been lost, and the
client puts it together once more."""


class Joined:
    """Partial uploads, and what they were put together to."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.before_ns = now_ns - _JOINED_NS
        """What was done by then counts as that."""
        self._pieces: dict[UploadId, UploadRow] = {}
        self._done: set[UploadId] = set()
        self._needed: set[UploadId] = set()

    def saw(self, id: UploadId, row: UploadRow) -> None:
        """One upload more."""
        if row.wishes.is_partial and row.state is not UploadState.GONE:
            self._pieces[id] = row
        ids = [UploadId(one) for one in row.wishes.made_of]
        if row.state.is_open and row.expires_at_ns > self.now_ns:
            self._needed.update(ids)
        elif row.state is UploadState.DONE and row.alive_at_ns <= self.before_ns:
            self._done.update(ids)

    @property
    def fading(self) -> list[UploadId]:
        """Those that something unfinished is made of, and that it would outlive."""
        needed = ((id, row) for id, row in self._pieces.items() if id in self._needed)
        return [id for id, row in needed if row.expires_at_ns < self.now_ns + row.lifetime_ns // 2]

    @property
    def expired(self) -> list[UploadId]:
        """Those that nothing unfinished is made of, and whose time is past."""
        return [id for id, row in self._pieces.items() if id not in self._needed and row.expires_at_ns <= self.now_ns]

    @property
    def done_with(self) -> list[UploadId]:
        """Those that are part of an upload which is done, and of none that is not."""
        return sorted(self._done - self._needed)


class Sweeping:
    """Removes uploads with everything they have."""

    def __init__(self, kit: Kit, turns: Turns, states: HashStates, stale_seconds: float) -> None:
        self._kit, self._turns, self._states = kit, turns, states
        self._stale_ns = int(stale_seconds * 1e9)

    def is_stale(self, row: UploadRow) -> bool:
        """Whether nobody is at an upload, as far as one can tell."""
        if self._turns.is_here(row):
            return False
        return not row.token or row.alive_at_ns + self._stale_ns < self._kit.now_ns()

    async def terminate(self, id: UploadId) -> bool:
        """Remove an upload; whether it was there. Repeating it is safe, and so is a crash: its row goes last."""
        try:
            row = await self._kit.decide(partial(_let_go, id=id, now_ns=self._kit.now_ns()))
        except IntegrityError:  # nobody can read its row, so nobody is at it; its sessions expire
            await self._remove_bytes(id)
            return True
        if row is not None:
            await self._remove(id, row)
            self._kit.metrics.counter(MetricKeys.UPLOADS, event="terminated")
        return row is not None

    async def _remove(self, id: UploadId, row: UploadRow) -> None:
        """Everything of an upload whose row says that it goes."""
        kit = self._kit
        await self._turns.stop(id)
        self._states.drop(id)
        await end_sessions(kit, [one for one in (row.session, row.heir, *row.old_sessions) if one])
        await kit.give_room_back(id, row)
        await self._remove_bytes(id)

    async def _remove_bytes(self, id: UploadId) -> None:
        await self._kit.parts.remove_folder(id)
        await self._kit.tracker.clear(range_locator(id))
        await self._kit.decide(partial(records.remove, id=id))

    async def sweep(self, resume: Callable[[UploadId], None]) -> Swept:
        """Remove what has expired and what nobody owns; `resume` is told of uploads to be finished."""
        expired = resumed = failed = open_ones = 0
        after: UploadId | None = None
        joined = Joined(self._kit.now_ns())
        counted = await self._kit.kv.read(_counted)
        while True:
            rows = await self._kit.kv.read(partial(records.load_all, after=after, limit=_ROWS))
            for id, data in rows:
                try:
                    row = UploadRow.decode(data)
                    open_ones += row.state.is_open
                    joined.saw(id, row)
                    is_over = row.expires_at_ns <= self._kit.now_ns() and not row.wishes.is_partial
                    if row.state is UploadState.GONE or is_over:
                        expired += await self._expire(id)
                    elif is_unfinished(row) and self.is_stale(row) and not self._turns.of(id):
                        resume(id)
                        resumed += 1
                except GravitonError as error:  # the others must not wait for what is wrong with this one
                    log_failure(f"upload {id} cannot be swept now", error)
                    failed += 1
                after = id
            if len(rows) < _ROWS:
                break
        await self._kit.note(partial(counting.recounted, before=counted, found=open_ones))
        self._kit.metrics.gauge(MetricKeys.UPLOADS_OPEN, open_ones)
        gone, stay = await self._sweep_joined(joined)
        expired, failed = expired + gone, failed + stay
        await self._kit.reservations.recover()
        orphans, without = await self._sweep_orphans()
        return Swept(expired, orphans, resumed, failed + without)

    async def _expire(self, id: UploadId) -> bool:
        row = await self._kit.decide(partial(_let_go, id=id, now_ns=self._kit.now_ns(), if_expired=True))
        if row is not None:
            await self._remove(id, row)
            self._kit.metrics.counter(MetricKeys.UPLOADS, event="expired")
        return row is not None

    async def _sweep_joined(self, joined: Joined) -> tuple[int, int]:
        """Partial uploads: those whose time is past go, and those that were put together and that nobody has used
        since. Whoever is still to be made of some keeps them alive."""
        gone = failed = 0
        steps = [(self._renew, joined.fading), (self._expire, joined.expired)]
        steps.append((partial(self._expire_joined, before_ns=joined.before_ns), joined.done_with))
        for step, ids in steps:
            for id in ids:
                try:
                    gone += await step(id)
                except NotFound:
                    continue  # it has gone meanwhile
                except GravitonError as error:
                    log_failure(f"partial upload {id} cannot be swept now", error)
                    failed += 1
        return gone, failed

    async def _renew(self, id: UploadId) -> bool:
        row = await self._kit.note(partial(records.touch, id=id, now_ns=self._kit.now_ns()))
        await self._kit.keep_session(id, row)
        return False

    async def _expire_joined(self, id: UploadId, before_ns: int) -> bool:
        row = await self._kit.decide(partial(_let_go_joined, id=id, before_ns=before_ns))
        if row is not None:
            await self._remove(id, row)
            self._kit.metrics.counter(MetricKeys.UPLOADS, event="expired")
        return row is not None

    async def _sweep_orphans(self) -> tuple[int, int]:
        """Objects of uploads that have no row: whoever was putting them had to die, or the metadata was restored."""
        removed = failed = 0
        for owner in [owner async for owner in self._kit.parts.owners()]:
            try:
                id = parse_upload_id(owner)
            except InvalidInput:
                continue  # not ours
            if await self._kit.kv.read(partial(_has_row, id=id)):
                continue  # its own end removes them
            try:
                await self._kit.parts.remove_folder(id)
                await self._kit.tracker.clear(range_locator(id))
                removed += 1
            except GravitonError as error:
                log_failure(f"what is left of upload {id} cannot be removed now", error)
                failed += 1
        return removed, failed


def _let_go(tx: Transaction, id: UploadId, now_ns: int, if_expired: bool = False) -> UploadRow | None:
    """Say that an upload goes: nobody can write to it from now on. None if there is none, or it may stay."""
    data = tx.get(UPLOADS, bytes.fromhex(id))
    if data is None:
        return None
    row = UploadRow.decode(data)
    if row.state is UploadState.GONE:
        return row
    if if_expired and row.expires_at_ns > now_ns:
        return None  # a sign of life came
    if row.state is UploadState.DONE:
        _let_pieces_expire(tx, row, now_ns + _JOINED_NS)
    return _gone(tx, id, row)


def _let_pieces_expire(tx: Transaction, row: UploadRow, at_ns: int) -> None:
    """What was made of these goes, and cannot tell any more that they were put together."""
    for one in dict.fromkeys(row.wishes.made_of):
        with suppress(NotFound, IntegrityError):
            piece = records.load(tx, UploadId(one))
            expires_at_ns = min(piece.expires_at_ns, at_ns)
            records.save(tx, UploadId(one), piece._replace(expires_at_ns=expires_at_ns))


def _let_go_joined(tx: Transaction, id: UploadId, before_ns: int) -> UploadRow | None:
    """The same of a partial upload that was put together. Whoever uses it again gives it a sign of life, in the
    transaction that makes the other one."""
    data = tx.get(UPLOADS, bytes.fromhex(id))
    if data is None:
        return None
    row = UploadRow.decode(data)
    is_idle = row.is_complete and not row.token and row.alive_at_ns <= before_ns
    return _gone(tx, id, row) if row.wishes.is_partial and row.state.is_open and is_idle else None


def _gone(tx: Transaction, id: UploadId, row: UploadRow) -> UploadRow:
    counting.closed(tx, row)
    return records.save(tx, id, row._replace(state=UploadState.GONE, token="", reach=0))


def _counted(tx: ReadTransaction) -> int | None:
    try:
        return counting.count(tx)
    except IntegrityError:
        return None


def _has_row(tx: ReadTransaction, id: UploadId) -> bool:
    return tx.get(UPLOADS, bytes.fromhex(id)) is not None
