"""How the bytes of one request get into an upload: in order, or wherever they belong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from graviton.concurrency.pieces import AsyncPieceFiller
from graviton.core.buffers import Buffer
from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Conflict, GravitonError, InvalidInput, LimitExceeded, NotFound, StorageFull
from graviton.metadata.upload_rows import PartRow, UploadRow
from graviton.ports.kv import ReadTransaction
from graviton.services.uploads import part_records
from graviton.services.uploads.beats import kept_alive
from graviton.services.uploads.comparing import compare
from graviton.services.uploads.cutting import Cutting, due_bytes, keep_part, keep_small, new_name
from graviton.services.uploads.finishing import Finishing
from graviton.services.uploads.hash_state import HashStates
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.parts import BytesLostError
from graviton.services.uploads.quota import Admission
from graviton.services.uploads.records import beyond, receiving
from graviton.services.uploads.sources import Feed, HeadFiller
from graviton.services.uploads.spill import checked, mismatch
from graviton.services.uploads.turn import StoppedError, Turn
from graviton.services.uploads.turns import Turns
from graviton.services.uploads.values import Checksum, UploadId, hasher

__all__ = ["Receiving"]


class _BusyError(Exception):
    """Somebody writes there, or bytes lie in the way: the part is put by first."""


class Receiving:
    """Takes bytes. Everything here is done to its end; to end early, the feed is stopped."""

    def __init__(self, kit: Kit, turns: Turns, states: HashStates, finishing: Finishing) -> None:
        self._kit, self._turns, self._states, self._finishing = kit, turns, states, finishing

    # In order.

    async def append(self, id: UploadId, offset: int, feed: Feed, checksum: Checksum | None) -> None:
        """Take what the feed brings from `offset` on. Raises as `Uploads.append`, but for what is wrong with the
        feed; StoppedError."""
        if checksum is None:
            await self._append(id, offset, feed, None)
            return
        row = await self._kit.load(id)  # whether it can be taken at all is said before it is read
        _check_offset(row, id, offset)
        if row.length is not None:
            feed.limit(row.length, beyond(id, row.length))
        spill = self._kit.open_spill()
        try:
            try:
                async with kept_alive(self._kit, id):
                    await checked(feed, checksum, spill)
            except GravitonError:
                feed.raise_error()
                if feed.is_stopped:
                    raise StoppedError from None
                raise
            feed.raise_error()
            good = Feed(spill, offset)
            await self._append(id, offset, good, None)
            good.raise_error()
            if good.is_stopped:
                raise StoppedError
        finally:
            await spill.aclose()

    async def _append(self, id: UploadId, offset: int, feed: Feed, end: int | None) -> None:
        """With an `end`, of a part, only if nobody else writes; else raises _BusyError before anything is read."""
        ask = partial(_append_at, id=id, offset=offset, end=end)
        async with self._turns.turn(id, ask) as turn:
            try:
                if turn.lost is not None:
                    raise turn.lost
                row = turn.row
                if row.length is not None:
                    feed.limit(row.length, beyond(id, row.length))
                if row.reach < _most(row, end):
                    feed.limit(row.reach, _held_ahead(id, row.reach), fills=True)
                await self._admit(turn, feed)
                turn.begin(feed)
                spans = await self._take_in(turn, feed)
            except BytesLostError as error:
                await self._finishing.fail(turn, error)
                raise
            if spans:
                await self._kit.tell(id, spans)

    async def _admit(self, turn: Turn, feed: Feed) -> None:
        """Have room in the quota for what comes. What may be there already is taken without, but for what would have to
        be put by. Raises StorageFull."""
        kit, id, row = self._kit, turn.id, turn.row
        if not kit.reservations.are_needed:
            return

        def without_room(refused: StorageFull) -> None:
            if self._is_put_by(row):
                raise refused
            turn.refused = refused

        if row.length is None:
            held = await kit.kv.read(partial(part_records.held, id=id, row=row))
            feed.admit = Admission(kit.reservations, id, row, held.covered_length - row.offset, without_room)
        elif (refused := await kit.reservations.keep(id, row, row.length)) is not None:
            without_room(refused)

    def _is_put_by(self, row: UploadRow) -> bool:
        """Whether so much waits to be cut that what comes waits too."""
        return row.offset - row.cut_to > self._kit.sizes.backlog_bytes

    async def _take_in(self, turn: Turn, feed: Feed) -> list[Span]:
        kit, row, lazy_bytes = self._kit, turn.row, self._kit.sizes.lazy_bytes
        if self._is_put_by(row):
            async with aclosing(_pieces(feed)) as pieces:
                return await keep_part(kit, turn, pieces)
        filler = AsyncPieceFiller(feed)
        try:
            lease = await kit.put.budget.lease(lazy_bytes + 1, kit.put.budget.for_puts)
            try:
                memory = memoryview(bytearray(lazy_bytes + 1))
                count = await filler.fill(memory)
                is_last = feed.position == row.length and not row.wishes.is_partial
                if count <= lazy_bytes and not is_last and row.offset - row.cut_to + count < due_bytes(kit, row):
                    return await keep_small(kit, turn, memory[:count])
            finally:
                lease.release()  # what was read goes on as the head of a larger buffer: nobody waits while holding
            return await Cutting(kit, self._states, turn).run(HeadFiller(memory[:count], filler))
        finally:
            await filler.aclose()

    # Anywhere.

    async def put_part(self, id: UploadId, span: Span, feed: Feed, digest: Checksum | None) -> None:
        """Take the bytes of `span`. Raises as `Uploads.put_part`."""
        row = receiving(await self._kit.load(id), id)
        if row.length is not None and span.end > row.length:
            raise beyond(id, row.length)
        feed.limit(span.end, _other_length(id, span))
        goes_on = digest is None and row.offset == span.start
        if goes_on and await self._append_part(id, span, feed):
            return
        try:
            await self._have_room(id, row, span)
        except StorageFull:
            if not goes_on:
                raise
            async with self._turns.turn(id, _any_time):  # whoever writes, or died at it, ends: the newest writer wins
                pass
            _check_offset(await self._kit.load(id), id, span.start)
            if not await self._append_part(id, span, feed):
                raise
            return
        async with kept_alive(self._kit, id):
            made = await self._kit.parts.put(id, new_name(), _whole(id, feed, span, digest))
        await self._hold(id, made.row(span))

    async def _append_part(self, id: UploadId, span: Span, feed: Feed) -> bool:
        """Cut a part at once that begins at the offset; False if somebody else writes, or bytes lie in the way, and
        nothing was read."""
        try:
            await self._append(id, span.start, feed, span.end)
        except _BusyError:
            return False
        if feed.has_ended and feed.position < span.end:
            raise _other_length(id, span)  # what came stays, and whoever sent it is not told that all did
        return True

    async def _have_room(self, id: UploadId, row: UploadRow, span: Span) -> None:
        """In the quota, for a part beside what is held. Raises StorageFull."""
        total = row.length
        if total is None and self._kit.reservations.are_needed:
            held = await self._kit.kv.read(partial(part_records.held, id=id, row=row))
            total = (held | RangeSet([span])).covered_length
        await self._kit.reservations.grow(id, row, total or 0)

    async def _hold(self, id: UploadId, part: PartRow) -> None:
        """Have the bytes of a part that is durable be held, as far as they are not yet."""
        try:
            missing = await self._register(id, part)
        except (Conflict, NotFound, LimitExceeded):  # surely in no row; after any other error nobody knows
            await self._kit.parts.delete(id, [part.name])
            raise
        if len(missing) == 1:
            await self._kit.tell(id, [part.span])
            return
        for gap in missing:  # each part has an object of its own
            async with aclosing(self._kit.parts.read(id, part, gap)) as pieces:
                made = await self._kit.parts.put(id, new_name(), pieces)
            await self._hold(id, made.row(gap))
        await self._kit.parts.delete(id, [part.name])

    async def _register(self, id: UploadId, part: PartRow) -> RangeSet:
        """Compare what is held with the part, and register it if it fills one gap; the gaps there were."""
        compared = RangeSet()
        while True:
            register = partial(part_records.register, id=id, now_ns=self._kit.now_ns(), part=part, compared=compared)
            found = await self._kit.decide(register)
            if found.in_the_way:  # the newest writer wins, wherever it writes
                async with self._turns.turn(id, _any_time):
                    continue
            if found.overlap == compared:
                await self._kit.keep_session(id, found.row)
                return found.missing
            await compare(self._kit, id, part, found.overlap - compared)
            compared = found.overlap


async def _pieces(feed: Feed) -> AsyncGenerator[Buffer, None]:
    async for piece in feed:
        yield piece


async def _whole(id: UploadId, feed: Feed, span: Span, digest: Checksum | None) -> AsyncGenerator[Buffer, None]:
    """All bytes of a part, or an error before the last of them."""
    check = None if digest is None else hasher(digest.algo)
    async for piece in feed:
        if check is not None:
            check.update(piece)
        yield piece
    feed.raise_error()
    if feed.is_stopped:
        raise StoppedError
    if feed.position != span.end:
        raise _other_length(id, span)
    if digest is not None and check is not None and check.digest() != digest.raw:
        raise mismatch(digest)


def _check_offset(row: UploadRow, id: UploadId, offset: int) -> None:
    receiving(row, id)
    if offset != row.offset:
        raise Conflict(
            f"upload {id} goes on at byte {row.offset}, not at {offset}",
            operation="upload",
            subject=id,
            hint="Ask for its offset, and go on there.",
        )


def _append_at(tx: ReadTransaction, row: UploadRow, id: UploadId, offset: int, end: int | None) -> dict[str, Any]:
    """Whether bytes from `offset` on may come, and up to where no others lie."""
    if end is not None and (row.token or row.offset != offset):
        raise _BusyError
    _check_offset(row, id, offset)
    reach = _most(row, end)
    ahead: Sequence[PartRow] = list(part_records.parts_after(tx, id, offset, 1))
    if ahead:
        if end is not None and ahead[0].span.start < end:
            raise _BusyError
        reach = min(reach, ahead[0].span.start)
    return {"reach": reach}


def _most(row: UploadRow, end: int | None) -> int:
    """Up to where bytes may come, if none lie ahead."""
    return min(MAX_SIZE if limit is None else limit for limit in (row.length, end))


def _any_time(_: ReadTransaction, row: UploadRow) -> dict[str, Any]:
    return {"reach": row.offset}


def _held_ahead(id: UploadId, reach: int) -> Conflict:
    return Conflict(
        f"the bytes of upload {id} from {reach} on are there already",
        operation="upload",
        subject=id,
        hint="Ask for its offset, and go on there.",
    )


def _other_length(id: UploadId, span: Span) -> InvalidInput:
    return InvalidInput(
        f"a part of {span.length} bytes was announced, and others came",
        operation="upload",
        subject=id,
        hint="Send exactly the bytes of the range.",
    )
