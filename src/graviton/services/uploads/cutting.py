"""What a writer does with bytes: cut them as a put does, or put them by as parts until there are enough to be cut."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from itertools import pairwise
from typing import Any

from graviton.concurrency.finishing import finish_anyway
from graviton.concurrency.pieces import AsyncPieceFiller, Filler
from graviton.core.buffers import Buffer
from graviton.core.chunking import ChunkerSpec
from graviton.core.hashing import HashAlgo
from graviton.core.ranges import Span
from graviton.errors import Conflict, LimitExceeded, NotFound
from graviton.metadata.upload_rows import ID_BYTES, PartRow, UploadRow
from graviton.ports.kv import ReadTransaction
from graviton.services.uploads import part_records, records
from graviton.services.uploads.hash_state import HashState, HashStates
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.part_records import Progress
from graviton.services.uploads.parts import BytesLostError, PartObject
from graviton.services.uploads.records import Overtaken
from graviton.services.uploads.sources import ChainedFiller
from graviton.services.uploads.turn import Turn
from graviton.services.uploads.values import Checksum, ChecksumAlgo, UploadId
from graviton.stores.intake import Counts, Intake, PageBuilder
from graviton.stores.segments import filled_segments

__all__ = [
    "Cutting",
    "claims_of",
    "due_bytes",
    "is_due",
    "keep_part",
    "keep_small",
    "new_name",
]

CHECKPOINT_PAGES = 4
"""Full pages of the manifest in memory after which what is durable is written down."""


def due_bytes(kit: Kit, row: UploadRow) -> int:
    """With so much that waits, an upload is cut: at least one block comes of it."""
    return max(kit.sizes.lazy_bytes, ChunkerSpec.parse(row.wishes.chunker).max_bytes)


def is_due(kit: Kit, row: UploadRow) -> bool:
    """Whether there is enough to be cut."""
    return row.offset - row.cut_to >= due_bytes(kit, row)


def claims_of(row: UploadRow) -> list[Checksum]:
    """The digests that the whole must have."""
    return [Checksum(ChecksumAlgo(algo), raw) for algo, raw in row.wishes.digests]


class Cutting:
    """One way through the bytes of an upload in a turn: from the last cut on, first what waits, then a request's."""

    def __init__(self, kit: Kit, states: HashStates, turn: Turn) -> None:
        self._kit, self._states, self._turn = kit, states, turn
        self._wishes = turn.row.wishes
        self._held_to = turn.row.offset
        """Up to where bytes are held without this turn."""
        self._fed_to = turn.row.cut_to
        """Up to where what waits was read."""
        self._told = Counts()
        self._checked_at = kit.put.clock.monotonic()

    async def run(self, body: Filler | None = None, *, keeps_turn: bool = False) -> list[Span]:
        """Cut everything, and put what is not decided by as a part; the spans that are new, not yet told. With a
        `body`, what the turn's feed brings follows on what waits. Ends early, in order, when the turn is stopped. Ends
        the turn with its last change, unless it `keeps_turn`. Raises Overtaken, NotFound, BytesLostError, and what a
        put does; the turn is not clean then."""
        kit, turn = self._kit, self._turn
        spec, algo = ChunkerSpec.parse(self._wishes.chunker), HashAlgo.parse(self._wishes.hash)
        state = self._states.take(turn.id, turn.row.cut_to)
        if state is None:
            state = HashState(kit.put.kernel.ingest(spec, algo), turn.row.cut_to, claims_of(turn.row))
        last = await self._last_page()
        fillers: list[Filler] = [AsyncPieceFiller(self._waiting())]
        segments = await filled_segments(ChainedFiller([*fillers, body] if body else fillers), spec, kit.put.budget)
        session, domain = turn.row.session, self._wishes.domain
        pages, check = PageBuilder(last), turn.check_fresh
        intake = Intake(kit.put, state, algo, domain, session=session, pages=pages, check_fresh=check)
        turn.is_clean = False
        try:
            tail = await intake.read(segments, partial(self._step, intake), self._ends_blob)
            await self._end(intake, tail, {} if keeps_turn else {"token": "", "reach": 0})
        except BaseException as error:
            await finish_anyway(_give_up(intake, segments))
            if isinstance(error, Conflict) and not isinstance(error, Overtaken):
                raise records.ended(turn.id) from error
            raise
        await segments.aclose()
        turn.is_clean = True
        self._states.keep(turn.id, state)
        return [Span(self._held_to, turn.row.offset)] if turn.row.offset > self._held_to else []

    async def _last_page(self) -> Any:
        cut_to = self._turn.row.cut_to
        if not cut_to:
            return None
        return await self._kit.kv.read(partial(part_records.load_page, id=self._turn.id, offset=cut_to - 1))

    async def _waiting(self) -> AsyncIterator[Buffer]:
        """What is held and not cut."""
        async with aclosing(self._held()) as pieces:
            async for piece in pieces:
                self._fed_to += len(piece)
                yield piece
                if self._turn.is_stopping and self._turn.feed is None:
                    return

    def _held(self) -> AsyncGenerator[Buffer, None]:
        rest = Span(self._turn.row.cut_to, self._held_to)
        if not self._wishes.made_of:
            return self._kit.held.read(self._turn.id, rest)
        return _joined(self._kit, [UploadId(id) for id in self._wishes.made_of], rest)

    @property
    def _end_of_bytes(self) -> int:
        """Up to where bytes were read, of what waits or of the request."""
        feed = self._turn.feed
        return self._fed_to if feed is None or self._fed_to < self._held_to else feed.position

    def _ends_blob(self) -> bool:
        return not self._wishes.is_partial and self._end_of_bytes == self._turn.row.length

    async def _step(self, intake: Intake) -> None:
        done = intake.pages.end - self._turn.row.cut_to
        seconds = self._kit.put.clock.monotonic() - self._checked_at
        sizes = self._kit.sizes
        is_late = done > 0 and seconds >= sizes.checkpoint_seconds
        if done >= sizes.checkpoint_bytes or len(intake.pages.full) >= CHECKPOINT_PAGES or is_late:
            await self._confirm(intake)
            await self._checkpoint(intake, intake.pages.end, None)
            await self._kit.tell(self._turn.id, [Span(0, self._turn.row.offset)])

    async def _end(self, intake: Intake, tail: memoryview, fields: dict[str, Any]) -> None:
        """The last checkpoint, with what is not decided."""
        await self._confirm(intake)  # first: whoever was overtaken puts no object
        end, cut_to, held_to = self._end_of_bytes, intake.pages.end, self._turn.row.offset
        if end <= max(cut_to, held_to):  # the rest is in parts already
            await self._checkpoint(intake, max(cut_to, min(end, held_to)), None, **fields)
            return
        waiting = await self._kit.kv.read(partial(_between, id=self._turn.id, start=cut_to, end=end))
        merged_from = _merged_from(waiting, end, self._kit.sizes.tail_parts)
        start = max(cut_to, held_to if merged_from is None else merged_from)
        made = await self._kit.parts.put_memory(self._turn.id, new_name(), tail[start - cut_to :])
        await self._checkpoint(intake, end, made.row(Span(start, end)), **fields)

    async def _confirm(self, intake: Intake) -> None:
        """Have every block that was claimed be stored."""
        await intake.settle()
        assert intake.session is not None
        await self._kit.put.block_index.confirm(intake.session, intake.take_durable())

    async def _checkpoint(self, intake: Intake, end: int, tail: PartRow | None, **fields: Any) -> None:
        """Write down what was confirmed."""
        kit, turn = self._kit, self._turn
        pages, cut_to = intake.pages.take_full(), intake.pages.end
        if cut_to > turn.row.cut_to and (short := intake.pages.short()) is not None:
            pages.append(short)
        counts = intake.counts
        added = tuple(now - before for now, before in zip(counts, self._told, strict=True))
        await write_down(kit, turn, Progress(pages, cut_to, end, tail, added), **fields)  # type: ignore[arg-type]
        self._told, self._checked_at = counts, kit.put.clock.monotonic()


async def write_down(kit: Kit, turn: Turn, progress: Progress, **fields: Any) -> None:
    """A checkpoint: the rows, then the objects that are needed no longer. Raises Overtaken, NotFound, LimitExceeded."""
    decide = partial(part_records.checkpoint, id=turn.id, writer=turn.token, now_ns=kit.now_ns(), progress=progress)
    try:
        turn.row, gone = await kit.decide(partial(decide, **fields))
    except (Overtaken, NotFound, LimitExceeded):
        if progress.tail is not None:  # surely in no row; after any other error nobody knows
            await kit.parts.delete(turn.id, [progress.tail.name])
        raise
    turn.has_left = not turn.row.token
    await kit.parts.delete(turn.id, gone)


async def keep_small(kit: Kit, turn: Turn, data: memoryview) -> list[Span]:
    """Put the few bytes that a request brought by, with the last parts if these are many and small; the new span."""
    row = turn.row
    end = row.offset + len(data)
    if not data:
        return []
    waiting = await kit.kv.read(partial(_between, id=turn.id, start=row.cut_to, end=row.offset))
    merged_from = _merged_from(waiting, end, kit.sizes.tail_parts)
    if merged_from is None:
        made = await kit.parts.put_memory(turn.id, new_name(), data)
        start = row.offset
    else:
        start = max(merged_from, row.cut_to)
        made = await kit.parts.put(turn.id, new_name(), _followed(kit, turn, Span(start, row.offset), data))
    await _keep(kit, turn, made, Span(start, end))
    return [Span(row.offset, end)]


async def keep_part(kit: Kit, turn: Turn, body: AsyncGenerator[Buffer, None]) -> list[Span]:
    """Put all that a request brings by as one part; the new span."""
    start = turn.row.offset
    made = await kit.parts.put(turn.id, new_name(), body)
    if not made.size:
        await kit.parts.delete(turn.id, [made.name])
        return []
    await _keep(kit, turn, made, span := Span(start, start + made.size))
    return [span]


async def _keep(kit: Kit, turn: Turn, made: PartObject, span: Span) -> None:
    row = turn.row
    if row.parts >= part_records.MAX_PARTS:
        await kit.parts.delete(turn.id, [made.name])
        raise LimitExceeded(
            f"{row.parts} parts of upload {turn.id} wait to be cut", operation="upload", subject=turn.id
        )
    progress = Progress([], row.cut_to, span.end, made.row(span), (0, 0, 0, 0))
    await write_down(kit, turn, progress, token="", reach=0)


async def _followed(kit: Kit, turn: Turn, span: Span, data: memoryview) -> AsyncGenerator[Buffer, None]:
    async with aclosing(kit.held.read(turn.id, span)) as pieces:
        async for piece in pieces:
            yield piece
    yield data


async def _joined(kit: Kit, ids: Sequence[UploadId], rest: Span) -> AsyncGenerator[Buffer, None]:
    """The bytes of `rest` of what partial uploads are together. Raises BytesLostError."""
    at = 0
    for id in ids:
        try:
            length = (await kit.load(id)).offset
            start, end = max(rest.start, at), min(rest.end, at + length)
            if start < end:
                async with aclosing(kit.held.read(id, Span(start - at, end - at))) as pieces:
                    async for piece in pieces:
                        yield piece
        except NotFound as error:  # and will never be there again
            message = f"the partial upload {id} was terminated, or has expired, before it was put together"
            raise BytesLostError(message, operation="upload", subject=id) from error
        at += length


def _between(tx: ReadTransaction, id: UploadId, start: int, end: int) -> list[PartRow]:
    found = []
    for part in part_records.parts_after(tx, id, start):
        if part.span.start >= end:
            break
        found.append(part)
    return found


def _merged_from(waiting: Sequence[PartRow], end: int, most: int) -> int | None:
    """Where a part begins that takes the place of the last of those that wait; None if they are few, or larger. Each
    is at most twice what comes after it, so what was put together once is put together again only when as much has
    come."""
    count, start = 0, waiting[-1].span.end if waiting else end
    assert all(one.span.end == two.span.start for one, two in pairwise(waiting)), "no gap before the offset"
    for part in reversed(waiting):
        if part.span.length > 2 * (end - start):
            break
        count, start = count + 1, part.span.start
    return start if count >= most - 1 else None


def new_name() -> bytes:
    """The name of an object that nobody has."""
    return secrets.token_bytes(ID_BYTES)


async def _give_up(intake: Intake, segments: Any) -> None:
    """First the writers, which use the memory of the segments."""
    try:
        await intake.stop()
    finally:
        await segments.aclose()
