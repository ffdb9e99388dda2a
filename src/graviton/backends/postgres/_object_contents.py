"""Contents of objects as transactions: written part by part, copied, given up, removed.

A content is written by nobody but the put or copy that drew its id, and is immutable once it is in use. Parts are not
fsynced one by one: the commit that puts the content in use (`_object_names.py`) makes all of them durable, for the log
is written in order. After a crash of the server the last of them may be missing; then `size` tells, which grows in the
transactions of the parts, and nothing is built on a gap.

Clocks decide when a content may be removed by others, never whether that is safe: who removes one that is being written
turns its state first, and the writer's next transaction is refused.
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from graviton.backends.postgres._scripts import Script, Statement
from graviton.core.buffers import Buffer
from graviton.errors import Conflict

__all__ = [
    "Content",
    "ContentState",
    "add_part",
    "begin",
    "copy_parts",
    "give_up",
    "leave",
    "remove_some",
    "sweep_some",
]

_BATCH_BYTES = 16 * 1024 * 1024
"""Copied or removed per transaction: some 50 ms, and less memory of the server than one large part needs."""
_BATCH_PARTS = 1024
"""The same for parts that are tiny."""


class ContentState(Enum):
    """What a row of `object_contents` is."""

    WRITTEN = 1
    """Being written."""
    USED = 2
    """An object has it."""
    GONE = 3
    """No object will ever have it."""


_BEGIN = f"""
INSERT INTO object_contents (id, state, size, part_bytes, expires_at)
VALUES (%(id)b, {ContentState.WRITTEN.value}, 0, %(part_bytes)b, %(expires)b) ON CONFLICT DO NOTHING
"""
"""There is one already only when the reply of a first try was lost."""

_GROW = f"""
UPDATE object_contents
SET size = %(end)b, expires_at = CASE WHEN expires_at < %(renewed_below)b THEN %(expires)b ELSE expires_at END
WHERE id = %(id)b AND state = {ContentState.WRITTEN.value} AND size = %(start)b
"""
"""The lease is given twice, and again when only once is left: not with every part, for an index has it."""

_ADD_PART = f"""
WITH grown AS ({_GROW} RETURNING id)
INSERT INTO object_parts (content_id, number, data) SELECT id, %(number)b, %(data)b FROM grown
"""

_COPY_PARTS = """
INSERT INTO object_parts (content_id, number, data)
SELECT %(id)b, number, data FROM object_parts
WHERE content_id = %(source)b AND number >= %(low)b AND number < %(high)b
"""

_LOOK = "SELECT state, size FROM object_contents WHERE id = %(id)b"

_LEAVE = f"""
UPDATE object_contents SET state = {ContentState.GONE.value}, expires_at = %(now)b WHERE id = %(id)b AND state = %(was)b
"""

_LOCK_GONE = f"""
SELECT size, part_bytes FROM object_contents WHERE id = %(id)b AND state = {ContentState.GONE.value} FOR UPDATE
"""

_LOCK_EXPIRED = f"""
SELECT id, state FROM object_contents WHERE state <> {ContentState.USED.value} AND expires_at <= %(now)b
ORDER BY expires_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

_REMOVE_PARTS = "DELETE FROM object_parts WHERE content_id = %(id)b AND number >= %(low)b AND number < %(high)b"
_SHRINK = "UPDATE object_contents SET size = %(size)b WHERE id = %(id)b"
_REMOVE = "DELETE FROM object_contents WHERE id = %(id)b"


class SourceReplacedError(Exception):
    """The content that is copied is being removed: its object has another one, or is deleted."""


class Content(NamedTuple):
    """A content that somebody writes."""

    id: UUID
    part_bytes: int
    lease_ns: int
    """How long its source may be silent, at least."""
    subject: str
    """The object, for errors."""

    @classmethod
    def drawn(cls, now_ns: int, part_bytes: int, lease_ns: int, subject: str) -> Content:
        """A new one, of which the database knows nothing yet. Its id is a UUID of version 7: unique without asking
        anybody, so that a write whose reply was lost can be repeated, and a neighbour of others of its time."""
        drawn = (now_ns // 1_000_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
        return cls(UUID(int=drawn & (1 << 128) - 1), part_bytes, lease_ns, subject)

    def expires_ns(self, now_ns: int) -> int:
        """When a lease that is given now is over."""
        return now_ns + 2 * self.lease_ns

    def lost(self) -> Conflict:
        """The error of who finds less than was written."""
        return Conflict(
            f"what was written of {self.subject} is not there any more",
            operation="objects.put",
            subject=self.subject,
            hint="The server crashed, the source was silent for longer than the lease, or the object was put, and"
            " replaced by somebody else before the reply arrived: look at it, then put it again.",
        )


def begin(content: Content, now_ns: int) -> Statement:
    """Make the row of a new content."""
    values = {"id": content.id, "part_bytes": content.part_bytes, "expires": content.expires_ns(now_ns)}
    return Statement(_BEGIN, values)


def add_part(content: Content, number: int, data: Buffer, now_ns: int) -> Script[None]:
    """Append a part; with number 0 the content begins. Run again, it finds the part there. Raises Conflict if the
    parts before it are not there."""
    start = number * content.part_bytes
    values = _growth(content, start, start + len(data), now_ns) | {"number": number, "data": data}
    first = [begin(content, now_ns)] if number == 0 else []
    *_, added = yield [*first, Statement(_ADD_PART, values)]
    if not added.changed:
        yield from _check_written(content, start + len(data))


def copy_parts(content: Content, source: UUID, start: int, size: int, now_ns: int) -> Script[int]:
    """Append some parts of `source`, of `size` bytes, after the first `start`; how many bytes there are then. Run
    again, it finds them there. Raises SourceReplacedError if the source has lost them."""
    low = start // content.part_bytes
    high = min(low + _batch_parts(content.part_bytes), _parts(size, content.part_bytes))
    end = min(high * content.part_bytes, size)
    first = [begin(content, now_ns)] if start == 0 else []
    *_, grown = yield [*first, Statement(_GROW, _growth(content, start, end, now_ns))]
    if not grown.changed:
        yield from _check_written(content, end)
        return end
    (copied,) = yield [Statement(_COPY_PARTS, {"id": content.id, "source": source, "low": low, "high": high})]
    if copied.changed < high - low:
        raise SourceReplacedError
    return end


def leave(content_id: UUID, was: ContentState, now_ns: int) -> Statement:
    """Say of a content in the state `was` that no object will have it."""
    return Statement(_LEAVE, {"id": content_id, "was": was.value, "now": now_ns})


class Removed(NamedTuple):
    """What one transaction removed."""

    parts: int
    left: int
    """Parts of the content still there."""


def remove_some(content_id: UUID) -> Script[Removed]:
    """Remove some parts of a content that is gone, the last ones first, and with the last of all its row."""
    (locked,) = yield [Statement(_LOCK_GONE, {"id": content_id})]
    if not locked.rows:
        return Removed(0, 0)
    size, part_bytes = locked.rows[0]
    high = _parts(size, part_bytes)
    low = max(0, high - _batch_parts(part_bytes))
    # By their numbers, which the row knows: looking for whatever is left would pass over all that was removed before.
    parts = Statement(_REMOVE_PARTS, {"id": content_id, "low": low, "high": high})
    if low:
        rest = Statement(_SHRINK, {"id": content_id, "size": low * part_bytes})
    else:
        rest = Statement(_REMOVE, {"id": content_id})
    removed, _ = yield [parts, rest]
    return Removed(removed.changed, low)


def give_up(content: Content, now_ns: int) -> Script[Removed]:
    """End a content that is being written, and remove some of it. One in use is not touched."""
    yield [leave(content.id, ContentState.WRITTEN, now_ns)]
    return (yield from remove_some(content.id))


def sweep_some(now_ns: int) -> Script[Removed | None]:
    """Remove some of a content that has expired and that nobody else is removing; None if there is none."""
    (found,) = yield [Statement(_LOCK_EXPIRED, {"now": now_ns})]
    if not found.rows:
        return None
    content_id, state = found.rows[0]
    if state == ContentState.WRITTEN.value:
        yield [leave(content_id, ContentState.WRITTEN, now_ns)]
    return (yield from remove_some(content_id))


def _growth(content: Content, start: int, end: int, now_ns: int) -> dict[str, Any]:
    return {
        "id": content.id,
        "start": start,
        "end": end,
        "expires": content.expires_ns(now_ns),
        "renewed_below": now_ns + content.lease_ns,
    }


def _check_written(content: Content, end: int) -> Script[None]:
    """A content did not grow: that is right only if it had done so before, when the reply was lost."""
    (looked,) = yield [Statement(_LOOK, {"id": content.id})]
    if not any(state != ContentState.GONE.value and size == end for state, size in looked.rows):
        raise content.lost()


def _parts(size: int, part_bytes: int) -> int:
    return -(-size // part_bytes)


def _batch_parts(part_bytes: int) -> int:
    return max(1, min(_BATCH_BYTES // part_bytes, _BATCH_PARTS))
