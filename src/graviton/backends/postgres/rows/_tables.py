"""Which table holds which namespace, and how its rows are read and written there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._commits import BLOB_COLUMNS, blob_record
from graviton.backends.postgres._keys import blob_key
from graviton.backends.postgres._owners import owner_states
from graviton.backends.postgres.rows._layout import KeyLayout, Part
from graviton.core.names import decode_name, encode_name
from graviton.metadata.rows import (
    BLOBS,
    BLOCKS,
    CANDIDATES,
    CLAIMS,
    DROPPED,
    HOLDERS,
    NOTES,
    OWNERS,
    PAGES,
    REF_ROWS,
    REFS,
    TOTALS,
    BlockRow,
    NoteRow,
    OwnerRow,
    decode_blob,
    decode_ref,
    decode_totals,
    encode_blob,
    encode_totals,
)
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.manifests import StoreTotals

__all__ = ["TABLES", "Table"]

Row = Sequence[Any]

_BLOCK_KEY = (Part.TAG, Part.DIGEST, Part.SIZE)
_KEY_NAMES = ("algo", "digest", "size")
_BLOCK_STATES = {state.value: state for state in BlockState}


class Table(NamedTuple):
    """One namespace. `new` in a statement stands for rows to write, `gone` for keys to remove, both with the columns
    `names`; the parameter `domain` is the number of their domain."""

    layout: KeyLayout
    """Of the key after the domain."""
    key: tuple[str, ...]
    """The key's columns in `select`."""
    select: str
    """Columns after those of the key, FROM and WHERE."""
    encode: Callable[[Row], bytes]
    """The value, from all that `select` finds."""
    names: tuple[str, ...]
    """Columns of rows to write, the key's first."""
    types: tuple[str, ...] = ()
    """Types of those after the key's."""
    decode: Callable[[Row, bytes], Row] = lambda key, value: ()
    """Columns after the key's, from the key's and the value."""
    put: tuple[str, ...] = ()
    """Statements that write rows; none: they follow from rows of another namespace."""
    delete: tuple[str, ...] = ()
    """Statements that remove rows, the last of them those of the namespace, and whatever refers to them before."""
    has_domain: bool = False
    """The key begins with a domain."""
    leading: int = 0
    """So many columns of the key are of the first table, whose index finds where to begin; 0: all."""


# Rows come in any order. What a row refers to is made up if it is not there yet, and put right by its own row.
_MAKE_OWNERS = (
    "INSERT INTO owners (id, domain_id, state, unconfirmed, changed_at, expires_at, lifetime)"
    f" SELECT DISTINCT owner_id, {{domain}}, {OwnerState.ENDED.value}, 0, 0, 0, 0 FROM new ON CONFLICT DO NOTHING"
)
_MAKE_BLOCKS = (
    "INSERT INTO blocks (domain_id, algo, digest, size, state, generation)"
    f" SELECT DISTINCT %(domain_id)s::int, algo, digest, size, {BlockState.PENDING.value}, 1 FROM new"
    " ON CONFLICT DO NOTHING"
)
_SAME_KEY = "b.domain_id = %(domain_id)s AND b.algo = {0}.algo AND b.digest = {0}.digest AND b.size = {0}.size"


def _upsert(table: str, key: str, columns: str) -> str:
    """The end of an INSERT that writes over a row with the same key."""
    names = [name.strip() for name in columns.split(",")]
    return f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{name} = EXCLUDED.{name}' for name in names)}"


def _owner_value(row: Row) -> bytes:
    _, state, unconfirmed, losing, changed, expires, lifetime, name = row
    domain = encode_name(name)
    return OwnerRow(owner_states[state], unconfirmed, changed, expires, lifetime, domain, b"", losing).encode()


def _owner_columns(key: Row, value: bytes) -> Row:
    row = OwnerRow.decode(value)
    name, _ = decode_name(row.domain)
    times = (row.changed_at_ns, row.expires_at_ns, row.lifetime_ns)
    return (row.state.value, row.unconfirmed, row.losing_claims, *times, name)


_OWNER_VALUES = "domain_id, state, unconfirmed, losing_claims, changed_at, expires_at, lifetime"

_OWNERS = Table(
    KeyLayout(Part.NUMBER),
    ("o.id",),
    "o.state, o.unconfirmed, o.losing_claims, o.changed_at, o.expires_at, o.lifetime, d.name"
    " FROM owners o JOIN domains d ON d.id = o.domain_id WHERE true",
    _owner_value,
    ("owner_id", "state", "unconfirmed", "losing_claims", "changed_at", "expires_at", "lifetime", "domain"),
    ("smallint", "integer", "boolean", "bigint", "bigint", "bigint", "text"),
    _owner_columns,
    (
        "INSERT INTO domains (name) SELECT DISTINCT domain FROM new ON CONFLICT DO NOTHING",
        f"INSERT INTO owners (id, {_OWNER_VALUES})"
        " SELECT owner_id, d.id, state, unconfirmed, losing_claims, changed_at, expires_at, lifetime"
        " FROM new JOIN domains d ON d.name = new.domain" + _upsert("owners", "id", _OWNER_VALUES),
    ),
    (
        "DELETE FROM refs t USING gone WHERE t.owner_id = gone.owner_id",
        "DELETE FROM pages t USING gone WHERE t.owner_id = gone.owner_id",
        "DELETE FROM holders t USING gone WHERE t.owner_id = gone.owner_id",
        "DELETE FROM blobs t USING gone WHERE t.owner_id = gone.owner_id",
        "DELETE FROM owners t USING gone WHERE t.id = gone.owner_id",
    ),
)


def _block_columns(key: Row, value: bytes) -> Row:
    row = BlockRow.decode(value)
    return row.state.value, row.generation, row.wanted_back


_BLOCKS = Table(
    KeyLayout(*_BLOCK_KEY),
    ("b.algo", "b.digest", "b.size"),
    "b.state, b.generation, b.wanted_back FROM blocks b WHERE b.domain_id = %(domain_id)s",
    lambda row: BlockRow(_BLOCK_STATES[row[3]], row[4], row[5]).encode(),
    (*_KEY_NAMES, "state", "generation", "wanted_back"),
    ("smallint", "bigint", "boolean"),
    _block_columns,
    (
        "INSERT INTO blocks (domain_id, algo, digest, size, state, generation, wanted_back)"
        " SELECT %(domain_id)s::int, algo, digest, size, state, generation, wanted_back FROM new"
        + _upsert("blocks", "domain_id, algo, digest, size", "state, generation, wanted_back"),
    ),
    (
        "DELETE FROM refs t USING gone JOIN blocks b ON " + _SAME_KEY.format("gone") + " WHERE t.block_id = b.id",
        "DELETE FROM candidates t USING gone JOIN blocks b ON " + _SAME_KEY.format("gone") + " WHERE t.block_id = b.id",
        "DELETE FROM blocks b USING gone WHERE " + _SAME_KEY.format("gone"),
    ),
    has_domain=True,
)

_REFS = Table(
    KeyLayout(*_BLOCK_KEY, Part.NUMBER),
    ("b.algo", "b.digest", "b.size", "r.owner_id"),
    "r.kind FROM blocks b JOIN refs r ON r.block_id = b.id WHERE b.domain_id = %(domain_id)s",
    lambda row: REF_ROWS[row[4]],
    (*_KEY_NAMES, "owner_id", "kind"),
    ("smallint",),
    lambda key, value: (decode_ref(value),),
    (
        _MAKE_OWNERS.format(domain="%(domain_id)s::int"),
        _MAKE_BLOCKS,
        "INSERT INTO refs (owner_id, block_id, kind) SELECT new.owner_id, b.id, new.kind FROM new JOIN blocks b ON "
        + _SAME_KEY.format("new")
        + _upsert("refs", "owner_id, block_id", "kind"),
    ),
    (
        "DELETE FROM refs t USING gone JOIN blocks b ON "
        + _SAME_KEY.format("gone")
        + " WHERE t.block_id = b.id AND t.owner_id = gone.owner_id",
    ),
    has_domain=True,
    leading=3,
)

_CLAIMS = Table(
    KeyLayout(Part.NUMBER, *_BLOCK_KEY),
    ("r.owner_id", "b.algo", "b.digest", "b.size"),
    "0 FROM refs r JOIN blocks b ON b.id = r.block_id WHERE true",
    lambda row: KeyLayout(*_BLOCK_KEY).encode(row[1:4]),
    ("owner_id", *_KEY_NAMES),
    leading=1,
)
"""A row for each claim: the same that `refs` says, by owner."""

_CANDIDATES = Table(
    KeyLayout(*_BLOCK_KEY),
    ("b.algo", "b.digest", "b.size"),
    "0 FROM candidates c JOIN blocks b ON b.id = c.block_id WHERE b.domain_id = %(domain_id)s",
    lambda row: b"",
    _KEY_NAMES,
    put=(
        _MAKE_BLOCKS,
        "INSERT INTO candidates (block_id) SELECT b.id FROM new JOIN blocks b ON "
        + _SAME_KEY.format("new")
        + " ON CONFLICT DO NOTHING",
    ),
    delete=(
        "DELETE FROM candidates t USING gone JOIN blocks b ON " + _SAME_KEY.format("gone") + " WHERE t.block_id = b.id",
    ),
    has_domain=True,
)


def _blob_columns(key: Row, value: bytes) -> Row:
    row = decode_blob(blob_key(*key), value)
    attributes = row.attributes.to_bytes()
    return row.owner, row.page_count, row.block_count, row.pages_digest, row.chunker, row.created_at_ns, attributes


_BLOB_VALUES = "owner_id, page_count, block_count, pages_digest, chunker, created_at, attributes"

_BLOB_KEY = KeyLayout(Part.TAG, Part.DIGEST, Part.NUMBER)

_BLOBS = Table(
    _BLOB_KEY,
    ("b.algo", "b.digest", "b.size"),
    BLOB_COLUMNS + " FROM blobs b WHERE b.domain_id = %(domain_id)s",
    lambda row: encode_blob(blob_record(tuple(row[3:]))),
    (*_KEY_NAMES, *_BLOB_VALUES.split(", ")),
    ("bigint", "integer", "bigint", "bytea", "text", "bigint", "bytea"),
    _blob_columns,
    (
        _MAKE_OWNERS.format(domain="%(domain_id)s::int"),
        f"INSERT INTO blobs (domain_id, algo, digest, size, {_BLOB_VALUES})"
        f" SELECT %(domain_id)s::int, algo, digest, size, {_BLOB_VALUES} FROM new"
        + _upsert("blobs", "domain_id, algo, digest, size", _BLOB_VALUES),
    ),
    ("DELETE FROM blobs b USING gone WHERE " + _SAME_KEY.format("gone"),),
    has_domain=True,
)

_PAGES = Table(
    KeyLayout(Part.NUMBER, Part.NUMBER),
    ("p.owner_id", "p.end_offset"),
    "p.data FROM pages p WHERE true",
    lambda row: bytes(row[2]),
    ("owner_id", "end_offset", "data"),
    ("bytea",),
    lambda key, value: (value,),
    (
        _MAKE_OWNERS.format(domain="1"),
        "INSERT INTO pages (owner_id, end_offset, data) SELECT owner_id, end_offset, data FROM new"
        + _upsert("pages", "owner_id, end_offset", "data"),
    ),
    ("DELETE FROM pages t USING gone WHERE t.owner_id = gone.owner_id AND t.end_offset = gone.end_offset",),
)

_HOLDERS = Table(
    KeyLayout(Part.NUMBER, Part.BYTES),
    ("h.owner_id", "convert_to(h.name, 'UTF8')"),  # bounds need not be text
    "0 FROM holders h WHERE true",
    lambda row: b"",
    ("owner_id", "name"),
    put=(
        _MAKE_OWNERS.format(domain="1"),
        "INSERT INTO holders SELECT owner_id, convert_from(name, 'UTF8') FROM new ON CONFLICT DO NOTHING",
    ),
    delete=(
        "DELETE FROM holders t USING gone WHERE t.owner_id = gone.owner_id AND convert_to(t.name, 'UTF8') = gone.name",
    ),
    leading=1,
)

_TOTALS = Table(
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
        + _upsert("totals", "domain_id, suffix", "blobs, logical_bytes, blocks, stored_bytes"),
    ),
    ("DELETE FROM totals t USING gone WHERE t.domain_id = %(domain_id)s AND t.suffix = gone.suffix",),
    has_domain=True,
)

_DROPPED = Table(
    KeyLayout(Part.NUMBER),
    ("o.id",),
    "d.name, b.algo, b.digest, b.size"
    " FROM owners o JOIN blobs b ON b.owner_id = o.id JOIN domains d ON d.id = b.domain_id"
    f" WHERE o.state = {OwnerState.DROPPED.value}",
    lambda row: encode_name(row[1]) + _BLOB_KEY.encode(row[2:]),
    ("owner_id",),
)
"""What the rows of owners and blobs say."""

_NOTES = Table(
    KeyLayout(*_BLOCK_KEY, Part.ID),
    ("n.algo", "n.digest", "n.size", "n.run"),
    "n.generation, n.noted_at FROM notes n WHERE n.domain_id = %(domain_id)s",
    lambda row: NoteRow(row[4], row[5]).encode(),
    (*_KEY_NAMES, "run", "generation", "noted_at"),
    ("bigint", "bigint"),
    lambda key, value: NoteRow.decode(value),
    (
        "INSERT INTO notes (domain_id, algo, digest, size, run, generation, noted_at)"
        " SELECT %(domain_id)s::int, algo, digest, size, run, generation, noted_at FROM new"
        + _upsert("notes", "domain_id, algo, digest, size, run", "generation, noted_at"),
    ),
    ("DELETE FROM notes b USING gone WHERE " + _SAME_KEY.format("gone") + " AND b.run = gone.run",),
    has_domain=True,
)

TABLES: dict[str, Table] = {
    OWNERS: _OWNERS,
    BLOCKS: _BLOCKS,
    REFS: _REFS,
    CLAIMS: _CLAIMS,
    CANDIDATES: _CANDIDATES,
    NOTES: _NOTES,
    BLOBS: _BLOBS,
    PAGES: _PAGES,
    HOLDERS: _HOLDERS,
    DROPPED: _DROPPED,
    TOTALS: _TOTALS,
}
"""All namespaces with tables of their own; every other one lies in `kv`."""
