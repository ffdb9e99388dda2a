"""Blobs, their pages and holders, and the totals."""

from __future__ import annotations

from graviton.backends.postgres._blob_rows import BLOB_COLUMNS, blob_record
from graviton.backends.postgres._keys import blob_key
from graviton.backends.postgres.rows._layout import KeyLayout, Part
from graviton.backends.postgres.rows._table import (
    KEY_NAMES,
    MAKE_OWNERS,
    SAME_KEY,
    Row,
    Table,
    upsert,
)
from graviton.core.names import encode_name
from graviton.metadata.rows import (
    decode_blob,
    decode_totals,
    encode_blob,
    encode_totals,
)
from graviton.ports.block_index import OwnerState
from graviton.ports.manifests import StoreTotals

__all__ = ["BLOBS_TABLE", "DROPPED_TABLE", "HOLDERS_TABLE", "PAGES_TABLE", "TOTALS_TABLE"]


def _blob_columns(key: Row, value: bytes) -> Row:
    row = decode_blob(blob_key(*key), value)
    attributes = row.attributes.to_bytes()
    return row.owner, row.page_count, row.block_count, row.pages_digest, row.chunker, row.created_at_ns, attributes


_BLOB_VALUES = "owner_id, page_count, block_count, pages_digest, chunker, created_at, attributes"

_BLOB_KEY = KeyLayout(Part.TAG, Part.DIGEST, Part.NUMBER)

BLOBS_TABLE = Table(
    _BLOB_KEY,
    ("b.algo", "b.digest", "b.size"),
    BLOB_COLUMNS + " FROM blobs b WHERE b.domain_id = %(domain_id)s",
    lambda row: encode_blob(blob_record(tuple(row[3:]))),
    (*KEY_NAMES, *_BLOB_VALUES.split(", ")),
    ("bigint", "integer", "bigint", "bytea", "text", "bigint", "bytea"),
    _blob_columns,
    (
        MAKE_OWNERS.format(domain="%(domain_id)s::int"),
        f"INSERT INTO blobs (domain_id, algo, digest, size, {_BLOB_VALUES})"
        f" SELECT %(domain_id)s::int, algo, digest, size, {_BLOB_VALUES} FROM new"
        + upsert("blobs", "domain_id, algo, digest, size", _BLOB_VALUES),
    ),
    ("DELETE FROM blobs b USING gone WHERE " + SAME_KEY.format("gone"),),
    has_domain=True,
)

PAGES_TABLE = Table(
    KeyLayout(Part.NUMBER, Part.NUMBER),
    ("p.owner_id", "p.end_offset"),
    "p.data FROM pages p WHERE true",
    lambda row: bytes(row[2]),
    ("owner_id", "end_offset", "data"),
    ("bytea",),
    lambda key, value: (value,),
    (
        MAKE_OWNERS.format(domain="1"),
        "INSERT INTO pages (owner_id, end_offset, data) SELECT owner_id, end_offset, data FROM new"
        + upsert("pages", "owner_id, end_offset", "data"),
    ),
    ("DELETE FROM pages t USING gone WHERE t.owner_id = gone.owner_id AND t.end_offset = gone.end_offset",),
)

HOLDERS_TABLE = Table(
    KeyLayout(Part.NUMBER, Part.BYTES),
    ("h.owner_id", "convert_to(h.name, 'UTF8')"),  # bounds need not be text
    "0 FROM holders h WHERE true",
    lambda row: b"",
    ("owner_id", "name"),
    put=(
        MAKE_OWNERS.format(domain="1"),
        "INSERT INTO holders SELECT owner_id, convert_from(name, 'UTF8') FROM new ON CONFLICT DO NOTHING",
    ),
    delete=(
        "DELETE FROM holders t USING gone WHERE t.owner_id = gone.owner_id AND convert_to(t.name, 'UTF8') = gone.name",
    ),
    leading=1,
)

DROPPED_TABLE = Table(
    KeyLayout(Part.NUMBER),
    ("o.id",),
    "d.name, b.algo, b.digest, b.size"
    " FROM owners o JOIN blobs b ON b.owner_id = o.id JOIN domains d ON d.id = b.domain_id"
    f" WHERE o.state = {OwnerState.DROPPED.value}",
    lambda row: encode_name(row[1]) + _BLOB_KEY.encode(row[2:]),
    ("owner_id",),
)
"""What the rows of owners and blobs say."""

TOTALS_TABLE = Table(
    KeyLayout(Part.BYTES),
    ("t.suffix",),
    "t.blobs, t.logical_bytes, t.blocks, t.stored_bytes FROM totals t WHERE t.domain_id = %(domain_id)s",
    lambda row: encode_totals(StoreTotals(*row[1:])),
    ("suffix", "blobs", "logical_bytes", "blocks", "stored_bytes"),
    ("bigint", "bigint", "bigint", "bigint"),
    lambda key, value: decode_totals(value),
    (
        "INSERT INTO totals (domain_id, suffix, blobs, logical_bytes, blocks, stored_bytes)"
        " SELECT %(domain_id)s::int, suffix, blobs, logical_bytes, blocks, stored_bytes FROM new"
        + upsert("totals", "domain_id, suffix", "blobs, logical_bytes, blocks, stored_bytes"),
    ),
    ("DELETE FROM totals t USING gone WHERE t.domain_id = %(domain_id)s AND t.suffix = gone.suffix",),
    has_domain=True,
)
