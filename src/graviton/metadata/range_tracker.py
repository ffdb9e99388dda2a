"""`RangeTracker` over a transactional key-value store: one row per range, keyed by its end.

The ranges of a locator are disjoint and never touch, so those that meet a new span are neighbours in key order: a
merge reads and replaces them and no others. Rows: docs/formats/metadata.md. The tag of a locator is in its head row;
known_ranges.py says what for.
"""

from __future__ import annotations

from collections.abc import Iterable

from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.known_ranges import TAG_BYTES, Known, KnownRanges, new_tag, place_of
from graviton.metadata.rows import RANGE_HEADS, RANGES, u64
from graviton.ports.kv import KeyValueStore, ReadTransaction, Transaction
from graviton.ports.range_tracker import RangeTracker

__all__ = ["KvRangeTracker", "decode_head", "encode_head"]

_CLEAR_ROWS = 10_000
"""Rows removed per transaction by `clear`: some tens of milliseconds."""

_ROW_VERSION = b"\x01"


class KvRangeTracker(RangeTracker):
    """Persisted spans per locator; see the port for the laws. A merge costs a few rows for each range it meets."""

    def __init__(self, kv: KeyValueStore) -> None:
        self._kv = kv
        self._known = KnownRanges()

    async def current(self, locator: Locator) -> RangeSet:
        place = place_of(locator)
        known = self._known.recall(place)
        return self._known.remember(place, await self._kv.read(lambda tx: _load(tx, place, known)))

    async def merge_many(self, locator: Locator, spans: Iterable[Span]) -> RangeSet:
        added = RangeSet(spans)
        if not added:
            return await self.current(locator)
        place = place_of(locator)
        known = self._known.recall(place)

        def run(tx: Transaction) -> Known:
            before = _load(tx, place, known)
            fresh = [span for span in added if not before.ranges.contains(span)]
            if not fresh:
                return before
            tag = new_tag()
            tx.put(RANGE_HEADS, place, encode_head(tag, locator.text))
            ranges = before.ranges
            for span in fresh:
                _merge_rows(tx, place, span)
                ranges = ranges.add(span)
            return Known(tag, ranges)

        return self._known.remember(place, await self._kv.transact(run))

    async def clear(self, locator: Locator) -> bool:
        place = place_of(locator)
        self._known.forget(place)
        found = await self._kv.transact(lambda tx: _clear_some(tx, place))
        more = found == _CLEAR_ROWS
        while more:  # each of them durable, or a power loss would bring back what was forgotten
            more = await self._kv.transact(lambda tx: _clear_some(tx, place)) == _CLEAR_ROWS
        return found > 0


def encode_head(tag: bytes, locator: str) -> bytes:
    """Namespace `range_heads`, key: place (32)."""
    return _ROW_VERSION + tag + locator.encode()


def decode_head(place: bytes, data: bytes) -> tuple[bytes, str]:
    """Inverse of `encode_head`. Raises IntegrityError."""
    if len(data) <= 1 + TAG_BYTES or data[:1] != _ROW_VERSION:
        raise _damaged(place)
    try:
        return data[1 : 1 + TAG_BYTES], data[1 + TAG_BYTES :].decode()
    except UnicodeDecodeError as error:
        raise _damaged(place) from error


def _load(tx: ReadTransaction, place: bytes, known: Known | None) -> Known:
    """The ranges there are: `known` if nothing changed since, else read from the rows."""
    head = tx.get(RANGE_HEADS, place)
    if head is None:
        return Known(b"", RangeSet())
    tag, _ = decode_head(place, head)
    if known is not None and known.tag == tag:
        return known
    return Known(tag, RangeSet([_span(key, value) for key, value in tx.scan(RANGES, place)]))


def _merge_rows(tx: Transaction, place: bytes, span: Span) -> None:
    """Put one range in the place of all those that overlap `span` or meet it end to start."""
    start, end = span.start, span.end
    gone = []
    # Keys are ends, and an end equal to our start meets it: the first candidate comes after start - 1.
    for key, value in tx.scan(RANGES, place, place + u64(start - 1) if start else None):
        old = _span(key, value)
        if old.start > end:
            break
        gone.append(key)
        start, end = min(start, old.start), max(end, old.end)
    tx.delete_many(RANGES, gone)
    tx.put(RANGES, place + u64(end), u64(start))


def _clear_some(tx: Transaction, place: bytes) -> int:
    """Remove up to `_CLEAR_ROWS` ranges; how many. The set shrinks from its beginning, and what is left at any moment
    was persisted: an interrupted `clear` lies about nothing."""
    keys = [key for key, _ in tx.scan(RANGES, place, None, _CLEAR_ROWS)]
    tx.delete_many(RANGES, keys)
    if len(keys) < _CLEAR_ROWS:
        tx.delete(RANGE_HEADS, place)
    else:
        head = tx.get(RANGE_HEADS, place) or b""
        tx.put(RANGE_HEADS, place, _ROW_VERSION + new_tag() + head[1 + TAG_BYTES :])
    return len(keys)


def _span(key: bytes, value: bytes) -> Span:
    try:
        if len(key) != 40 or len(value) != 8:
            raise InvalidInput("a range row has a key of 40 and a value of 8 bytes")
        span = Span(int.from_bytes(value, "big"), int.from_bytes(key[32:], "big"))
    except InvalidInput as error:
        raise _damaged(key) from error
    if not span.length:
        raise _damaged(key)
    return span


def _damaged(key: bytes) -> IntegrityError:
    return IntegrityError(
        f"a row of {RANGES!r} is damaged",
        operation="range_tracker",
        subject=key.hex(),
        hint="Clear the ranges of that upload and start it again.",
    )
