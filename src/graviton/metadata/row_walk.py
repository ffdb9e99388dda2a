"""Reading rows of the metadata past damaged ones.

A backend that checks its rows raises at a damaged one and does not say which it is. Where a scan can begin is all that
is needed to find out: it raises for every beginning before the damaged key and works from that key on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from graviton.errors import IntegrityError
from graviton.ports.kv import KeyValueStore, ReadTransaction

__all__ = ["ANY_WIDTH", "Row", "each_row", "read_rows", "walk_rows"]

ANY_WIDTH = 192
"""For keys of different lengths: more bytes than any key of ours has (a domain of 129, a block key, an owner)."""

_WALK_ROWS = 256
"""Rows per hop of `walk_rows`."""

_EACH_ROWS = 1000
"""Rows fetched at once by `each_row`."""


class Row(NamedTuple):
    """A row, or the key of one that cannot be read."""

    key: bytes
    value: bytes | None


async def walk_rows(
    kv: KeyValueStore, namespace: str, prefix: bytes, width: int, rows_per_hop: int = _WALK_ROWS
) -> AsyncIterator[Row]:
    """All rows whose key is `prefix` and `width` more bytes (at most `width`, if that is `ANY_WIDTH`). Raises
    IntegrityError where the rest cannot be reached."""
    after: bytes | None = None
    while True:
        rows = await kv.read(
            lambda tx, after=after: read_rows(tx, namespace, prefix, after, rows_per_hop, width)  # type: ignore[misc]
        )
        for row in rows:
            yield row
        if len(rows) < rows_per_hop:
            return
        after = rows[-1].key


def each_row(tx: ReadTransaction, namespace: str, prefix: bytes, width: int) -> Iterator[Row]:
    """As `walk_rows`, all in one transaction."""
    after: bytes | None = None
    while True:
        rows = read_rows(tx, namespace, prefix, after, _EACH_ROWS, width)
        yield from rows
        if len(rows) < _EACH_ROWS:
            return
        after = rows[-1].key


def read_rows(
    tx: ReadTransaction, namespace: str, prefix: bytes, after: bytes | None, limit: int, width: int
) -> list[Row]:
    """Up to `limit` rows after the key `after`, damaged ones among them; fewer only at the end."""
    rows: list[Row] = []
    while len(rows) < limit:
        try:
            for key, value in tx.scan(namespace, prefix, after, limit - len(rows)):
                rows.append(Row(key, value))
                after = key
            return rows
        except IntegrityError:
            after = _damaged_key(tx, namespace, prefix, after, width)
            if after is None:
                raise
            rows.append(Row(after, None))
    return rows


def _damaged_key(tx: ReadTransaction, namespace: str, prefix: bytes, after: bytes | None, width: int) -> bytes | None:
    """The key of a damaged row after `after`, such that what follows it can be read; None if there is no such key.

    Of several damaged rows it is usually the first. If it is a later one, those in between are passed over, and
    whoever walks a manifest notices the hole.
    """

    def can_begin_after(number: int) -> bool:
        try:
            next(iter(tx.scan(namespace, prefix, prefix + number.to_bytes(width, "big"), 1)), None)
        except IntegrityError:
            return False
        return True

    low = -1
    if after is not None and after.startswith(prefix):
        low = int.from_bytes(after[len(prefix) :].ljust(width, b"\x00")[:width], "big")
    high = (1 << 8 * width) - 1
    if not can_begin_after(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if can_begin_after(middle):
            high = middle
        else:
            low = middle
    found = prefix + high.to_bytes(width, "big")
    return found if width != ANY_WIDTH else _without_padding(tx, namespace, found)


def _without_padding(tx: ReadTransaction, namespace: str, padded: bytes) -> bytes:
    """The key that was found, without the zeros that made it `ANY_WIDTH` long: the one whose row is damaged."""
    for length in range(max(1, len(padded.rstrip(b"\x00"))), len(padded)):
        try:
            tx.get(namespace, padded[:length])
        except IntegrityError:
            return padded[:length]
    return padded
