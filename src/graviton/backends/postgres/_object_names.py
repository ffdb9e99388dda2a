"""Names of objects as transactions: what has which content. A name changes its content in one step, or not at all.

Everything locks in one order: the new content, the name, the old content. Nobody else touches a content that is being
written, but for a sweep, which waits for nothing; so there is no cycle.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from graviton.backends.postgres._object_contents import Content, ContentState, add_part, begin, leave
from graviton.backends.postgres._scripts import Script, Statement
from graviton.backends.postgres.errors import RacedError
from graviton.core.buffers import Buffer
from graviton.errors import Conflict

__all__ = ["FIND", "LIST", "LIST_BELOW", "OPEN", "Place", "Switched", "delete", "put_whole", "switch"]

FIND = """
SELECT o.content_id, c.size, c.part_bytes, o.modified_at FROM objects o JOIN object_contents c ON c.id = o.content_id
WHERE o.bucket = %(bucket)b AND o.path = %(path)b
"""

OPEN = """
SELECT c.id, c.size, c.part_bytes, substring(
    p.data FROM (%(start)b::bigint %% c.part_bytes)::int + 1
           FOR least(%(length)b::bigint, c.part_bytes - %(start)b::bigint %% c.part_bytes)::int)
FROM objects o JOIN object_contents c ON c.id = o.content_id
LEFT JOIN object_parts p ON p.content_id = c.id AND p.number = %(start)b::bigint / c.part_bytes
WHERE o.bucket = %(bucket)b AND o.path = %(path)b
"""
"""The content, and the first bytes wanted of it, of one moment: an object of one part is always read as a whole."""

_LIST = """
SELECT o.path, c.size, o.modified_at FROM objects o JOIN object_contents c ON c.id = o.content_id
WHERE o.bucket = %(bucket)b AND o.path >= %(low)b AND o.path > %(after)b {below}
ORDER BY o.path LIMIT %(limit)b
"""
LIST = _LIST.format(below="")
LIST_BELOW = _LIST.format(below="AND o.path < %(high)b")

_LOCK_CONTENT = "SELECT state, size FROM object_contents WHERE id = %(id)b FOR NO KEY UPDATE"

_LOCK_NAME = """
SELECT content_id, modified_at FROM objects WHERE bucket = %(bucket)b AND path = %(path)b FOR UPDATE
"""

_USE = f"UPDATE object_contents SET state = {ContentState.USED.value} WHERE id = %(id)b"

_NAME = """
INSERT INTO objects (bucket, path, content_id, modified_at) VALUES (%(bucket)b, %(path)b, %(id)b, %(now)b)
ON CONFLICT DO NOTHING
"""
_RENAME = """
UPDATE objects SET content_id = %(id)b, modified_at = %(now)b WHERE bucket = %(bucket)b AND path = %(path)b
"""
_UNNAME = "DELETE FROM objects WHERE bucket = %(bucket)b AND path = %(path)b"


class Place(NamedTuple):
    """A row of `objects`, by its key."""

    bucket: str
    path: str


class Switched(NamedTuple):
    """What came of a switch."""

    modified_ns: int
    old: UUID | None
    """The content that the object had, which is to be removed now."""


def put_whole(place: Place, content: Content, data: Buffer, now_ns: int) -> Script[Switched]:
    """Put an object of one part, or none, in one transaction. Raises Conflict."""
    if len(data):
        yield from add_part(content, 0, data, now_ns)
    else:
        yield [begin(content, now_ns)]
    return (yield from switch(place, content, len(data), now_ns))


def switch(place: Place, content: Content, size: int, now_ns: int) -> Script[Switched]:
    """Give an object its new content, which has `size` bytes. Run again after a lost reply, it finds that done. Raises
    Conflict if the content is not there as it was written."""
    values = place._asdict() | {"id": content.id, "now": now_ns}
    mine, named = yield [Statement(_LOCK_CONTENT, values), Statement(_LOCK_NAME, values)]
    state, written = mine.rows[0] if mine.rows else (ContentState.GONE.value, 0)
    old, modified_ns = named.rows[0] if named.rows else (None, 0)
    if old == content.id:
        return Switched(modified_ns, None)
    if state == ContentState.WRITTEN.value and written == size:
        change = Statement(_RENAME if named.rows else _NAME, values)
        last = [] if old is None else [leave(old, ContentState.USED, now_ns)]
        changed, *_ = yield [change, Statement(_USE, values), *last]
        if not changed.changed:
            raise RacedError("somebody else put the same object at the same time")
        return Switched(now_ns, old)
    raise content.lost()


def delete(place: Place, content_id: UUID, now_ns: int) -> Script[bool]:
    """Remove an object if it has this content; whether there was an object. One that was put since stays: the delete
    came before it. So it can be run again after a lost reply."""
    (named,) = yield [Statement(_LOCK_NAME, place._asdict())]
    if not named.rows:
        return False
    if named.rows[0][0] == content_id:
        yield [Statement(_UNNAME, place._asdict()), leave(content_id, ContentState.USED, now_ns)]
    return True


def replaced(subject: str, doing: str) -> Conflict:
    """The error of who needs bytes of a content that is being removed."""
    return Conflict(
        f"{subject} was replaced or deleted while it was {doing}",
        operation="objects",
        subject=subject,
        hint="Begin again.",
    )
