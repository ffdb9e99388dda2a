"""Copies and ranges."""

from __future__ import annotations

from graviton.backends.postgres.rows._layout import KeyLayout, Part
from graviton.backends.postgres.rows._table import (
    BLOCK_KEY,
    KEY_NAMES,
    Row,
    Table,
    upsert,
)
from graviton.core.locators import Locator
from graviton.metadata.range_tracker import decode_head, encode_head
from graviton.metadata.replica_rows import Copy, decode_copy
from graviton.metadata.rows import (
    u64,
)
from graviton.ports.replicas import ReplicaState

__all__ = ["RANGES_TABLE", "RANGE_HEADS_TABLE", "REPLICAS_TABLE"]

_MAKE_HEADS = (
    "INSERT INTO range_heads (place, tag, locator)"
    " SELECT DISTINCT place, '\\x0000000000000000'::bytea, 'unknown://locator/of-ranges' FROM new"
    " ON CONFLICT DO NOTHING"
)


def _copy_columns(key: Row, value: bytes) -> Row:
    copy = decode_copy(key[3], value)
    return copy.locator.text, copy.state.value, copy.verified_at_ns


_SAME_COPY = "c.algo = {0}.algo AND c.digest = {0}.digest AND c.size = {0}.size"

_COUNT_COPIES = (
    "UPDATE replica_counts c SET live = (SELECT count(*) FROM replicas r"
    " WHERE r.algo = c.algo AND r.digest = c.digest AND r.size = c.size"
    f" AND r.state = {ReplicaState.PRESENT.value}) FROM {{0}} WHERE " + _SAME_COPY
)

REPLICAS_TABLE = Table(
    KeyLayout(*BLOCK_KEY, Part.ID),
    ("c.algo", "c.digest", "c.size", "c.locator_id"),
    "c.locator, c.state, c.verified_at FROM replicas c WHERE true",
    lambda row: Copy(row[3], Locator.parse(row[4]), ReplicaState(row[5]), row[6]).encode(),
    (*KEY_NAMES, "locator_id", "locator", "state", "verified_at"),
    ("text", "smallint", "bigint"),
    _copy_columns,
    (
        "INSERT INTO replica_counts SELECT DISTINCT algo, digest, size, 0 FROM new ON CONFLICT DO NOTHING",
        "INSERT INTO replicas (algo, digest, size, locator_id, locator, state, verified_at) SELECT * FROM new"
        + upsert("replicas", "algo, digest, size, locator_id", "locator, state, verified_at"),
        _COUNT_COPIES.format("new"),
    ),
    (
        "DELETE FROM replicas c USING gone WHERE c.locator_id = gone.locator_id AND " + _SAME_COPY.format("gone"),
        _COUNT_COPIES.format("gone"),
        "DELETE FROM replica_counts c USING gone WHERE " + _SAME_COPY.format("gone") + " AND NOT EXISTS"
        " (SELECT FROM replicas r WHERE r.algo = c.algo AND r.digest = c.digest AND r.size = c.size)",
    ),
)
"""The indexes of the replica index are indexes of the table, and no rows: whoever restores makes them anew."""

RANGE_HEADS_TABLE = Table(
    KeyLayout(Part.DIGEST),
    ("h.place",),
    "h.tag, h.locator FROM range_heads h WHERE true",
    lambda row: encode_head(row[1], row[2]),
    ("place", "tag", "locator"),
    ("bytea", "text"),
    lambda key, value: decode_head(key[0], value),
    (
        "INSERT INTO range_heads (place, tag, locator) SELECT * FROM new"
        + upsert("range_heads", "place", "tag, locator"),
    ),
    (
        "DELETE FROM ranges r USING gone JOIN range_heads h ON h.place = gone.place WHERE r.head_id = h.id",
        "DELETE FROM range_heads h USING gone WHERE h.place = gone.place",
    ),
)

_SAME_RANGE = "h.place = gone.place AND r.head_id = h.id AND r.end_offset = gone.end_offset"

RANGES_TABLE = Table(
    KeyLayout(Part.DIGEST, Part.NUMBER),
    ("h.place", "r.end_offset"),
    "r.start_offset FROM range_heads h JOIN ranges r ON r.head_id = h.id WHERE true",
    lambda row: u64(row[2]),
    ("place", "end_offset", "start_offset"),
    ("bigint",),
    lambda key, value: (int.from_bytes(value, "big"),),
    (
        _MAKE_HEADS,
        "INSERT INTO ranges (head_id, start_offset, end_offset)"
        " SELECT h.id, new.start_offset, new.end_offset FROM new JOIN range_heads h ON h.place = new.place"
        + upsert("ranges", "head_id, start_offset", "end_offset"),
    ),
    ("DELETE FROM ranges r USING gone, range_heads h WHERE " + _SAME_RANGE,),
    leading=1,
)
