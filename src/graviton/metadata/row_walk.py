"""Reading rows of the metadata past damaged ones.

A backend that checks its rows raises at a damaged one and does not say which it is. Where a scan begins and ends is all
that is needed to find out: of all beginnings that a key can have, a scan raises for the one that the first row has, so
its key is found byte by byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import NamedTuple

from graviton.errors import IntegrityError
from graviton.ports.kv import MAX_KEY_BYTES, KeyValueStore, ReadTransaction

__all__ = ["Row", "each_row", "read_rows", "walk_rows"]

_WALK_ROWS = 256
"""Rows per hop of `walk_rows`."""

_WALK_BYTES = 4 << 20
"""Bytes after which a hop of `walk_rows` ends; one row may go beyond by its own size."""

_EACH_ROWS = 1000
"""Rows fetched at once by `each_row`."""


class Row(NamedTuple):
    """A row, or the key of one that cannot be read."""

    key: bytes
    value: bytes | None


def _rows(namespace: str, prefix: bytes, after: bytes | None, count: int, tx: ReadTransaction) -> list[Row]:
    return read_rows(tx, namespace, prefix, after, count, _WALK_BYTES)


async def walk_rows(
    kv: KeyValueStore, namespace: str, prefix: bytes, rows_per_hop: int = _WALK_ROWS
) -> AsyncIterator[Row]:
    """All rows whose key begins with `prefix`. Raises IntegrityError where the rest cannot be reached."""
    after: bytes | None = None
    while True:
        rows = await kv.read(partial(_rows, namespace, prefix, after, rows_per_hop))
        for row in rows:
            yield row
        if len(rows) < rows_per_hop and sum(map(_size, rows)) < _WALK_BYTES:
            return
        after = rows[-1].key


def _size(row: Row) -> int:
    return len(row.key) + len(row.value or b"")


def each_row(tx: ReadTransaction, namespace: str, prefix: bytes) -> Iterator[Row]:
    """As `walk_rows`, all in one transaction."""
    after: bytes | None = None
    while True:
        rows = read_rows(tx, namespace, prefix, after, _EACH_ROWS)
        yield from rows
        if len(rows) < _EACH_ROWS:
            return
        after = rows[-1].key


def read_rows(
    tx: ReadTransaction, namespace: str, prefix: bytes, after: bytes | None, limit: int, max_bytes: int | None = None
) -> list[Row]:
    """Up to `limit` rows after the key `after`, damaged ones among them; fewer only at the end, or when they have
    `max_bytes`. A damaged one costs a few thousand lookups, some 50 ms. Raises IntegrityError where the rest cannot be
    reached."""
    rows: list[Row] = []
    size = 0
    while len(rows) < limit:
        try:
            for key, value in tx.scan(namespace, prefix, after, limit - len(rows)):
                rows.append(row := Row(key, value))
                after = key
                size += _size(row)
                if max_bytes is not None and size >= max_bytes:
                    break
            return rows
        except IntegrityError:
            after = _damaged_key(tx, namespace, prefix, after)
            if after is None:
                raise
            rows.append(Row(after, None))
    return rows


def _damaged_key(tx: ReadTransaction, namespace: str, prefix: bytes, after: bytes | None) -> bytes | None:
    """The key of the first row after `after`, which is damaged; None if it is not a row that is damaged, but the way
    to it."""
    begin = prefix
    while len(begin) < MAX_KEY_BYTES:
        is_after = bool(begin) and (after is None or begin > after)
        if is_after and _fails(tx, namespace, begin):
            return None if _fails(tx, namespace, begin + b"\x00") else begin
        # Children before the one that the first row is in are empty: nothing else can raise sooner.
        children = (begin + bytes((byte,)) for byte in range(256))
        found = next((child for child in children if _begins_damaged(tx, namespace, child, after)), None)
        if found is None:
            return None
        begin = found
    return None


def _fails(tx: ReadTransaction, namespace: str, key: bytes) -> bool:
    try:
        tx.get(namespace, key)
    except IntegrityError:
        return True
    return False


def _begins_damaged(tx: ReadTransaction, namespace: str, prefix: bytes, after: bytes | None) -> bool:
    if after is not None and prefix < after and not after.startswith(prefix):
        return False  # all of it lies before `after`
    try:
        next(iter(tx.scan(namespace, prefix, after, 1)), None)
    except IntegrityError:
        return True
    return False
