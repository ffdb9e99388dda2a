"""Events as rows: written by the transaction that makes the change, so that one is never there without the other.

They are numbered without gaps, from 1 on, because transactions over a key-value store come one after the other: the
order of numbers is that of changes. Row 0, the head, says which numbers there are.
docs/decisions/0051-outbox-in-a-key-value-store.md
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graviton.core.names import decode_name
from graviton.errors import IntegrityError
from graviton.metadata.rows import EVENTS, check_version, damaged_row, u64
from graviton.ports.events import Event, EventKind
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.outbox import MAX_TRIM

__all__ = [
    "KEPT_EVENTS",
    "TRIM_EVENTS",
    "EventHead",
    "blob_committed",
    "blob_deleted",
    "block_damaged",
    "decode_event",
    "encode_event",
    "load_head",
    "tell",
    "trim_events",
]

KEPT_EVENTS = 100_000
"""Events kept at least, if there were so many; some 15 MB of rows of 150 bytes. Older ones go by themselves: a store on
one machine must not grow for ever because nobody follows it."""

TRIM_EVENTS = 1_000
"""So many more than that are there when a writer removes the oldest: one in a thousand pays a millisecond."""

_ROW_VERSION = 1
_HEAD = struct.Struct(">BQQQ")  # row version, first, next, time of the event before the first
_EVENT = struct.Struct(">BQ")  # row version, time
_HEAD_KEY = u64(0)
_END = "\x00"


class EventHead(NamedTuple):
    """Namespace `events`, key: u64 0. Which events there are: `first` to `next - 1`."""

    first: int = 1
    next: int = 1
    before_ns: int = 0
    """Time of the event before the first, which was removed; 0 if there was none, or it is not known."""

    def encode(self) -> bytes:
        """The stored value."""
        return _HEAD.pack(_ROW_VERSION, *self)

    @classmethod
    def decode(cls, data: bytes) -> EventHead:
        """Inverse of `encode`."""
        try:
            version, first, next_, before_ns = _HEAD.unpack(data)
        except struct.error as error:
            raise damaged_row(EVENTS) from error
        check_version(version, EVENTS)
        return cls(first, next_, before_ns)


def encode_event(event: Event) -> bytes:
    """Namespace `events`, key: u64 number."""
    data = json.dumps(dict(event.data), sort_keys=True, separators=(",", ":"), ensure_ascii=False) if event.data else ""
    return _EVENT.pack(_ROW_VERSION, event.at_ns) + _END.join((event.kind.value, event.subject, data)).encode()


def decode_event(value: bytes) -> Event:
    """Inverse of `encode_event`."""
    try:
        version, at_ns = _EVENT.unpack_from(value)
        check_version(version, EVENTS)
        kind, subject, data = value[_EVENT.size :].decode().split(_END)
        return Event(EventKind(kind), at_ns, subject, json.loads(data) if data else {})
    except (struct.error, ValueError) as error:
        raise damaged_row(EVENTS) from error


def blob_committed(domain: bytes, subject: str, blocks: int, now_ns: int) -> Event:
    """A manifest became that of a blob: a new one, one that was deleted and is back, or one that repairs it."""
    return Event(EventKind.BLOB_COMMITTED, now_ns, subject, _data(domain, {"blocks": blocks}))


def blob_deleted(domain: bytes, subject: str, now_ns: int) -> Event:
    """The last holder went."""
    return Event(EventKind.BLOB_DELETED, now_ns, subject, _data(domain, {}))


def block_damaged(domain: bytes, subject: str, now_ns: int) -> Event:
    """A stored block was found missing or wrong."""
    return Event(EventKind.BLOCK_DAMAGED, now_ns, subject, _data(domain, {}))


def _data(domain: bytes, data: dict[str, str | int]) -> Mapping[str, str | int]:
    name, _ = decode_name(domain)
    return {**data, "domain": name} if name else data


def load_head(tx: ReadTransaction) -> EventHead:
    """What there is; nothing in a store that was never told anything. Raises IntegrityError."""
    data = tx.get(EVENTS, _HEAD_KEY)
    return EventHead() if data is None else EventHead.decode(data)


def tell(tx: Transaction, events: Sequence[Event]) -> None:
    """Write events, the last thing that a transaction does, and remove the oldest if there are too many."""
    if not events:
        return
    try:
        head = load_head(tx)
    except IntegrityError:
        head = _begin_anew(tx, events[0].at_ns)
    rows = [(u64(number), encode_event(event)) for number, event in enumerate(events, head.next)]
    head = head._replace(next=head.next + len(events))
    surplus = head.next - head.first - KEPT_EVENTS
    if surplus >= TRIM_EVENTS:
        head = _without(tx, head, min(surplus, MAX_TRIM))
    tx.put_many(EVENTS, [(_HEAD_KEY, head.encode()), *rows])


def _begin_anew(tx: Transaction, now_ns: int) -> EventHead:
    """After the head was damaged: no put may fail because of it. All that is left goes, and numbers continue with the
    time, which none has reached before: whoever has an older position is told that events were removed."""
    tx.delete_range(EVENTS, _HEAD_KEY)
    return EventHead(now_ns, now_ns)


def trim_events(tx: Transaction, before_ns: int, limit: int) -> int:
    """Remove up to `limit` of the oldest events from before that time; how many. Raises IntegrityError."""
    head = load_head(tx)
    count = 0
    for _, value in tx.scan(EVENTS, b"", u64(head.first - 1), limit):
        if decode_event(value).at_ns >= before_ns:
            break
        count += 1
    if count:
        tx.put(EVENTS, _HEAD_KEY, _without(tx, head, count).encode())
    return count


def _without(tx: Transaction, head: EventHead, count: int) -> EventHead:
    """Remove the `count` oldest events, one at least; the new head, to be written."""
    first = head.first + count
    try:
        value = tx.get(EVENTS, u64(first - 1))
        before_ns = 0 if value is None else decode_event(value).at_ns
    except IntegrityError:
        before_ns = 0  # whoever has just this position is refused
    tx.delete_range(EVENTS, u64(head.first), u64(first))
    return EventHead(first, head.next, before_ns)
