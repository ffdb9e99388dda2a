"""Whole objects up, down and sideways, whatever their size: what the object stores and the blob store share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

from graviton.backends.objectstore._multipart import MAX_PARTS, TOKEN, multipart
from graviton.backends.objectstore._s3_api import Head, Piece, S3Api, changed
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.finishing import finish_anyway, side_by_side, until_done
from graviton.concurrency.parts import PartPlan, Parts, write_parts
from graviton.core.ranges import Span
from graviton.errors import Conflict, NotFound, RangeNotSatisfiable

__all__ = ["PIECE_BYTES", "Written", "copy_object", "part_plan", "put_parts", "read_object", "read_pieces"]

_GROWTH: Final = 1250
"""A part has at least 1/1250 of what went before it. So parts have the smallest size up to 1,250 of them (10 GiB of
8 MiB), and 10,000 make 5 TiB even if the first had 5 MiB: 1250 * 5 MiB * e ** (8750 / 1250) are 6.5 TiB."""

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Bytes per request of a read. At 100 MB/s a request then takes twice as long as an answer is away, and the next one is
on its way meanwhile; and two of them are all that a reader holds."""

_SMALL_BYTES: Final = 64 * 1024
"""Asked for of an object that is expected to be small, before its size is known."""

_COPIED_BYTES: Final = 512 * 1024 * 1024
"""Of one part of a copy. The server says nothing until it has copied it, which `request_seconds` bounds: at 10 MB/s, as
slow as disks are, it takes 54 s."""

_READS: Final = 5
"""How often a small object is read that is replaced each time."""


class Written(NamedTuple):
    """An object that was made."""

    size: int
    modified_ns: int
    """By the server's clock; 0 if it told none."""


def part_plan(api: S3Api, part_bytes: int, size: int | None = None, expected: int | None = None) -> PartPlan:
    """How an object goes up in parts of at least `part_bytes`; `size` if it is known, or else what is `expected`, of
    which the last 1,250 parts are kept for what comes beyond it."""
    config = api.config
    if size is not None:
        part_bytes = max(part_bytes, -(-size // MAX_PARTS))
    elif expected is not None:
        part_bytes = max(part_bytes, -(-expected // (MAX_PARTS - _GROWTH)))
    return PartPlan(
        part_bytes,
        held=config.parallel_parts,
        writers=config.parallel_parts,
        growth=0 if size is not None else _GROWTH,
        held_bytes=max(config.max_request_bytes, part_bytes * config.parallel_parts),
        grows_after=expected or 0,
    )


async def put_parts(
    api: S3Api,
    key: str,
    subject: str,
    first: memoryview,
    parts: Parts,
    plan: PartPlan,
    completing: Callable[[], None] = lambda: None,
) -> Written:
    """Make an object of `first` and the parts after it: it is there as a whole or not at all, and never before
    `completing` was called."""
    async with multipart(api, key, subject) as upload:
        size = await write_parts(first, parts, plan, upload.put_part)
        await parts.aclose()  # a source that fails even in that makes no object
        completing()
    return Written(size, upload.completed_ns)


async def copy_object(api: S3Api, key: str, head: Head, to: str, subject: str) -> Written:
    """Copy an object, which is as `head` says, inside the server. Raises NotFound; Conflict if it is replaced, and a
    large one also if it is deleted, meanwhile; of a large one also where the server does not look at the condition
    that each part has."""
    if head.size <= api.config.copy_part_bytes:
        return Written(head.size, await _copy_at_once(api, key, head, to, subject))
    part_bytes = max(min(api.config.copy_part_bytes, _COPIED_BYTES), -(-head.size // MAX_PARTS))
    spans = [Span(start, min(start + part_bytes, head.size)) for start in range(0, head.size, part_bytes)]
    metadata = {name: value for name, value in head.metadata.items() if name != TOKEN}
    turn = asyncio.Semaphore(api.config.parallel_parts)
    async with multipart(api, to, subject, metadata, head.content_type, of_copies=True) as upload:

        async def copy(number: int, span: Span) -> None:
            async with turn:
                await upload.copy_part(number, key, span, head.etag)

        await side_by_side(copy(number, span) for number, span in enumerate(spans))
        now = await api.head(key, subject)
        if now is None or (now.etag, now.modified_ns) != (head.etag, head.modified_ns):
            raise changed(subject)
    return Written(head.size, upload.completed_ns)


async def _copy_at_once(api: S3Api, key: str, head: Head, to: str, subject: str) -> int:
    tried = Tried()
    try:
        return await api.copy(key, to, subject, tried, head.etag)
    except (NotFound, Conflict):
        found = await api.head(to, subject) if tried.is_open else None
        if found is None or not _is_copy(found, head):
            raise
        return found.modified_ns  # done by a try whose reply was lost, before the source went


def _is_copy(found: Head, head: Head) -> bool:
    """Whether an object is a copy of what `head` tells of. One that we made by parts has another ETag than its copy,
    but a token that no other has."""
    token = head.metadata.get(TOKEN)
    is_same = found.etag == head.etag or (token is not None and found.metadata.get(TOKEN) == token)
    return found.size == head.size and is_same


async def read_pieces(api: S3Api, key: str, subject: str, span: Span, first: Piece) -> AsyncIterator[bytes]:
    """The bytes of `span`, of which `first` has the beginning. The next piece is asked for while the last one is used;
    after a reset it alone is asked for again. Raises Conflict if the object is another one by then."""
    position, piece = span.start, first
    ahead: asyncio.Task[Piece] | None = None
    try:
        while True:
            position += len(piece.data)
            if position < span.end:
                rest = Span(position, min(position + PIECE_BYTES, span.end))
                ahead = asyncio.create_task(api.get(key, subject, rest, first.etag))
            yield piece.data
            if ahead is None:
                return
            piece, ahead = await ahead, None
    finally:
        if ahead is not None:
            ahead.cancel()
            await finish_anyway(until_done(ahead))


async def read_object(api: S3Api, key: str, subject: str) -> bytes | None:
    """All bytes of an object that fits into memory; None if there is none. Raises Conflict if it is replaced again and
    again while it is read."""
    for _ in range(_READS - 1):
        try:
            return await _read_once(api, key, subject)
        except Conflict:
            continue
    return await _read_once(api, key, subject)


async def _read_once(api: S3Api, key: str, subject: str) -> bytes | None:
    try:
        first = await api.get(key, subject, Span(0, _SMALL_BYTES))
    except NotFound:
        return None
    except RangeNotSatisfiable:
        return b""
    if len(first.data) == first.size:
        return first.data
    try:
        return b"".join([piece async for piece in read_pieces(api, key, subject, Span(0, first.size), first)])
    except NotFound:
        return None  # deleted meanwhile
