"""Who writes to an upload: one at a time, the newest, each under a session of its own unless the one before ended well.

A *turn* begins when a writer's token is in the row, and ends when the writer takes it out, or somebody else's is there.
What is safe rests on the rows and on sessions alone (docs/uploads.md); what is here in memory only makes it quick, by
having a writer of this process store what it has before the next one begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.core.keys import BlockKey
from graviton.errors import Conflict, GravitonError, IntegrityError, NotFound
from graviton.metadata.upload_rows import UploadRow
from graviton.ports.block_index import OwnerState
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.metrics import MetricKeys
from graviton.services.uploads import beats, part_records, records
from graviton.services.uploads.kit import LEASE_LIFETIMES, Kit
from graviton.services.uploads.parts import BytesLostError
from graviton.services.uploads.records import Overtaken
from graviton.services.uploads.turn import Turn
from graviton.services.uploads.values import UploadId
from graviton.stores.intake import session_tag

__all__ = ["Ask", "Turns"]

Ask = Callable[[ReadTransaction, UploadRow], dict[str, Any]]
"""Whether an upload may be written to as it is now, and what else changes when a turn begins. Raises what says no."""


class Turns:
    """The turns of this process."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._running: dict[str, Turn] = {}
        self._is_closed = False

    def of(self, id: UploadId) -> list[Turn]:
        """Those at one upload, waiting ones included."""
        return [turn for turn in self._running.values() if turn.id == id]

    def is_here(self, row: UploadRow) -> bool:
        """Whether the writer of an upload is one of ours."""
        return row.token in self._running

    async def stop(self, id: UploadId) -> None:
        """Have every writer of an upload end, and wait for it."""
        for turn in self.of(id):
            turn.stop()
            await turn.over()

    def close(self) -> None:
        """Have all of them end, and those that begin."""
        self._is_closed = True
        for turn in self._running.values():
            turn.stop()

    @asynccontextmanager
    async def turn(self, id: UploadId, ask: Ask) -> AsyncIterator[Turn]:
        """A turn at an upload; look at `lost` and `committed` first. Raises what `ask` does, NotFound, Overtaken,
        StoppedError."""
        turn = Turn(id)
        turn.is_stopping = self._is_closed
        self._running[turn.token] = turn
        beat: asyncio.Future[None] | None = None
        try:
            turn.check()
            while not await self._take(turn, ask):
                turn.check()
            beat = asyncio.ensure_future(self._beat(turn))
            try:
                if turn.row.heir:
                    await self._inherit(turn)
                await self._end_old_sessions(turn)
                turn.is_clean = True
            except BytesLostError as error:
                turn.lost = error
            except Overtaken:
                raise
            except Conflict as error:
                raise records.ended(id) from error
            yield turn
        finally:
            await finish_anyway(self._leave(turn, beat))

    async def _leave(self, turn: Turn, beat: asyncio.Future[None] | None) -> None:
        try:
            if beat is not None:
                beat.cancel()
                await until_done(beat)
            if turn.is_clean and not turn.has_left:
                with suppress(GravitonError):  # else the next writer takes over
                    await self._kit.note(partial(records.leave, id=turn.id, writer=turn.token))
        finally:
            self._running.pop(turn.token, None)
            turn.end()

    async def _take(self, turn: Turn, ask: Ask) -> bool:
        """Write the token into the row; whether it was done. Waits for a writer of ours to end."""
        kit = self._kit
        row = await kit.kv.read(partial(_asked, id=turn.id, ask=ask))
        before = self._running.get(row.token)
        if before is not None:
            before.stop()
            await before.over()
            return False
        now_ns = kit.now_ns()
        leased_to_ns = await self._renewed(row, now_ns)
        fresh = 0
        if leased_to_ns is None:
            fresh = await finish_anyway(self._open(row))
            leased_to_ns = now_ns + LEASE_LIFETIMES * row.lifetime_ns
        taken: UploadRow | None = None
        try:
            take = partial(_take_row, turn=turn, expected=row, ask=ask, fresh=fresh, now_ns=now_ns)
            taken = await kit.note(partial(take, leased_to_ns=leased_to_ns))
        finally:
            if taken is None and fresh:
                with suppress(GravitonError):  # it holds nothing, and expires
                    await finish_anyway(kit.put.block_index.end(fresh))
        if taken is not None:
            turn.row = taken
        return taken is not None

    async def _renewed(self, row: UploadRow, now_ns: int) -> int | None:
        """Until when the session of the row lives, which this writer may go on under; None if it needs another one."""
        if row.token or not row.session:
            return None
        if row.leased_to_ns < now_ns + row.lifetime_ns:
            try:
                await self._kit.put.block_index.confirm(row.session, [])  # a sign of life
            except Conflict:
                return None  # it was ended: its lease ran out
            return now_ns + LEASE_LIFETIMES * row.lifetime_ns
        owner = await self._kit.put.block_index.owner(row.session)
        return row.leased_to_ns if owner is not None and owner.state is OwnerState.OPEN else None

    async def _open(self, row: UploadRow) -> int:
        """An empty session."""
        lifetime_seconds = LEASE_LIFETIMES * row.lifetime_ns / 1e9
        [opened] = await self._kit.put.block_index.open([[]], row.wishes.domain, lifetime_seconds)
        return opened.session

    async def _beat(self, turn: Turn) -> None:
        """Say now and then that the writer is there, until it has ended or was overtaken."""
        while True:
            await asyncio.sleep(beats.BEAT_SECONDS)
            try:
                await self._kit.keep_session(turn.id, await self._change(turn))
            except (Overtaken, NotFound):
                turn.stop()
                return
            except GravitonError:
                continue  # whoever writes is told

    # Taking over.

    async def _inherit(self, turn: Turn) -> None:
        """Claim every block that is cut for the new session, which takes the place of the old one then. The old one
        holds them until this is done."""
        row, index = turn.row, self._kit.put.block_index
        if await self._has_committed(row):
            turn.committed = row.session
            return
        at = 0
        while at < row.cut_to:
            turn.check()
            page = await self._kit.kv.read(partial(part_records.load_page, id=turn.id, offset=at))
            if page is None:
                raise BytesLostError(f"upload {turn.id} has no page for byte {at}", operation="upload", subject=turn.id)
            claims = await index.claim(row.heir, page.keys)
            await self._write_again(row, [claim.key for claim in claims if claim.must_write])
            at = page.end
        old = (*row.old_sessions, row.session)
        fields = {"session": row.heir, "heir": 0, "old_sessions": old}
        turn.row = await self._change(turn, **fields)
        self._kit.metrics.counter(MetricKeys.UPLOAD_TAKEOVERS)

    async def _write_again(self, row: UploadRow, keys: Sequence[BlockKey]) -> None:
        """Blocks that cannot be relied on any more are read from wherever they are still, and written again."""
        put = self._kit.put
        for key in keys:
            lease = await put.budget.lease(key.size, put.budget.for_puts)
            try:
                data = await self._kit.access.read(key, row.wishes.domain)
                plan = BlockWritePlan(WriteMode.ALWAYS, session_tag(row.heir))
                await put.blocks.put_blocks([CanonicalBlock(key, memoryview(data))], plan)
            except IntegrityError as error:
                raise BytesLostError(error.message, operation="upload", subject=key.text) from error
            finally:
                lease.release()
        await put.block_index.confirm(row.heir, keys)

    async def _has_committed(self, row: UploadRow) -> bool:
        return row.key is not None and await self.committed(row.session)

    async def committed(self, session: int) -> bool:
        """Whether a session has made its blob, which may have been deleted since."""
        owner = await self._kit.put.block_index.owner(session)
        return owner is not None and owner.state in (OwnerState.COMMITTED, OwnerState.DROPPED)

    async def _end_old_sessions(self, turn: Turn) -> None:
        """Nothing relies on them any more; a writer that is frozen finds its session ended."""
        if not turn.row.old_sessions:
            return
        for session in turn.row.old_sessions:
            try:
                await self._kit.put.block_index.end(session)
            except Conflict:
                turn.committed = session  # in the very moment before it lost its token
        turn.row = await self._change(turn, old_sessions=())

    async def _change(self, turn: Turn, **fields: Any) -> UploadRow:
        change = partial(records.change, id=turn.id, writer=turn.token, now_ns=self._kit.now_ns(), **fields)
        return await self._kit.note(change)


def _asked(tx: ReadTransaction, id: UploadId, ask: Ask) -> UploadRow:
    row = records.load(tx, id)
    ask(tx, row)
    return row


def _take_row(
    tx: Transaction, turn: Turn, expected: UploadRow, ask: Ask, fresh: int, now_ns: int, leased_to_ns: int
) -> UploadRow | None:
    """Begin a turn, if the upload is still as it was looked at; the row. `fresh` is a new session, 0 for none."""
    row = records.load(tx, turn.id)
    if (row.token, row.session) != (expected.token, expected.session):
        return None
    fields = ask(tx, row) | {"token": turn.token, "leased_to_ns": leased_to_ns}
    if fresh:
        old = tuple(session for session in (*row.old_sessions, row.heir) if session)
        if row.cut_to or row.key is not None:
            fields |= {"heir": fresh, "old_sessions": old}
        else:  # nothing is held yet
            old = (*old, row.session) if row.session else old
            fields |= {"session": fresh, "heir": 0, "old_sessions": old}
    return records.save(tx, turn.id, records.alive(row, now_ns)._replace(**fields))
