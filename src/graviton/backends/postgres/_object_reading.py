"""The bytes of one object on their way out: the next part is asked for while the last one is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

from graviton.backends.postgres._object_names import replaced
from graviton.backends.postgres.database import PgDatabase
from graviton.concurrency.finishing import until_done
from graviton.core.ranges import Span
from graviton.errors import IntegrityError

__all__ = ["Opened", "read_parts"]

_READ = """
SELECT substring(data FROM %(first)b::int FOR %(length)b::int) FROM object_parts
WHERE content_id = %(id)b AND number = %(number)b
"""
"""The parts are stored as they are, so the server reads no more of one than is wanted."""


class Opened(NamedTuple):
    """A content that is read."""

    id: UUID
    part_bytes: int
    subject: str
    """The object, for errors."""

    def wanted(self, position: int, end: int) -> int:
        """How many bytes the part at `position` has from there on, up to `end`."""
        return min(self.part_bytes - position % self.part_bytes, end - position)


async def read_parts(database: PgDatabase, opened: Opened, span: Span, first: bytes | None) -> AsyncIterator[bytes]:
    """The bytes of `span`, part by part; `first` are those of its first part. Nothing is held between two of them but
    the next part's bytes. Raises Conflict if the content is being removed."""
    position, piece = span.start, first
    ahead: asyncio.Task[bytes] | None = None
    try:
        while position < span.end:
            if ahead is not None:
                piece = await ahead
            if piece is None or len(piece) != opened.wanted(position, span.end):
                raise IntegrityError(
                    f"the part of {opened.subject} with byte {position} is not as long as it was written",
                    operation="objects.get",
                    subject=opened.subject,
                    hint="Restore the database from a backup, or put the object again.",
                )
            position += len(piece)
            if position < span.end:
                ahead = asyncio.create_task(_read(database, opened, position, span.end))
            yield piece
    finally:
        if ahead is not None:
            ahead.cancel()
            await until_done(ahead)


async def _read(database: PgDatabase, opened: Opened, position: int, end: int) -> bytes:
    values = {
        "id": opened.id,
        "number": position // opened.part_bytes,
        "first": position % opened.part_bytes + 1,
        "length": opened.wanted(position, end),
    }
    rows = await database.fetch("objects.get_part", _READ, values)
    if not rows:
        raise replaced(opened.subject, "read")
    piece: bytes = rows[0][0]
    return piece
