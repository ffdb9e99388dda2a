"""Owners, blocks, and who holds them."""

from __future__ import annotations

from graviton.backends.postgres._owners import owner_states
from graviton.backends.postgres.rows._layout import KeyLayout, Part
from graviton.backends.postgres.rows._table import (
    BLOCK_KEY,
    KEY_NAMES,
    MAKE_BLOCKS,
    MAKE_OWNERS,
    SAME_KEY,
    Row,
    Table,
    upsert,
)
from graviton.core.names import decode_name, encode_name
from graviton.metadata.rows import (
    REF_ROWS,
    BlockRow,
    NoteRow,
    OwnerRow,
    decode_ref,
)
from graviton.ports.block_index import BlockState

__all__ = ["BLOCKS_TABLE", "CANDIDATES_TABLE", "CLAIMS_TABLE", "NOTES_TABLE", "OWNERS_TABLE", "REFS_TABLE"]

_BLOCK_STATES = {state.value: state for state in BlockState}


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

OWNERS_TABLE = Table(
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
        " FROM new JOIN domains d ON d.name = new.domain" + upsert("owners", "id", _OWNER_VALUES),
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


BLOCKS_TABLE = Table(
    KeyLayout(*BLOCK_KEY),
    ("b.algo", "b.digest", "b.size"),
    "b.state, b.generation, b.wanted_back FROM blocks b WHERE b.domain_id = %(domain_id)s",
    lambda row: BlockRow(_BLOCK_STATES[row[3]], row[4], row[5]).encode(),
    (*KEY_NAMES, "state", "generation", "wanted_back"),
    ("smallint", "bigint", "boolean"),
    _block_columns,
    (
        "INSERT INTO blocks (domain_id, algo, digest, size, state, generation, wanted_back)"
        " SELECT %(domain_id)s::int, algo, digest, size, state, generation, wanted_back FROM new"
        + upsert("blocks", "domain_id, algo, digest, size", "state, generation, wanted_back"),
    ),
    (
        "DELETE FROM refs t USING gone JOIN blocks b ON " + SAME_KEY.format("gone") + " WHERE t.block_id = b.id",
        "DELETE FROM candidates t USING gone JOIN blocks b ON " + SAME_KEY.format("gone") + " WHERE t.block_id = b.id",
        "DELETE FROM blocks b USING gone WHERE " + SAME_KEY.format("gone"),
    ),
    has_domain=True,
)

REFS_TABLE = Table(
    KeyLayout(*BLOCK_KEY, Part.NUMBER),
    ("b.algo", "b.digest", "b.size", "r.owner_id"),
    "r.kind FROM blocks b JOIN refs r ON r.block_id = b.id WHERE b.domain_id = %(domain_id)s",
    lambda row: REF_ROWS[row[4]],
    (*KEY_NAMES, "owner_id", "kind"),
    ("smallint",),
    lambda key, value: (decode_ref(value),),
    (
        MAKE_OWNERS.format(domain="%(domain_id)s::int"),
        MAKE_BLOCKS,
        "INSERT INTO refs (owner_id, block_id, kind) SELECT new.owner_id, b.id, new.kind FROM new JOIN blocks b ON "
        + SAME_KEY.format("new")
        + upsert("refs", "owner_id, block_id", "kind"),
    ),
    (
        "DELETE FROM refs t USING gone JOIN blocks b ON "
        + SAME_KEY.format("gone")
        + " WHERE t.block_id = b.id AND t.owner_id = gone.owner_id",
    ),
    has_domain=True,
    leading=3,
)

CLAIMS_TABLE = Table(
    KeyLayout(Part.NUMBER, *BLOCK_KEY),
    ("r.owner_id", "b.algo", "b.digest", "b.size"),
    "0 FROM refs r JOIN blocks b ON b.id = r.block_id WHERE true",
    lambda row: KeyLayout(*BLOCK_KEY).encode(row[1:4]),
    ("owner_id", *KEY_NAMES),
    leading=1,
)
"""A row for each claim: the same that `refs` says, by owner."""

CANDIDATES_TABLE = Table(
    KeyLayout(*BLOCK_KEY),
    ("b.algo", "b.digest", "b.size"),
    "0 FROM candidates c JOIN blocks b ON b.id = c.block_id WHERE b.domain_id = %(domain_id)s",
    lambda row: b"",
    KEY_NAMES,
    put=(
        MAKE_BLOCKS,
        "INSERT INTO candidates (block_id) SELECT b.id FROM new JOIN blocks b ON "
        + SAME_KEY.format("new")
        + " ON CONFLICT DO NOTHING",
    ),
    delete=(
        "DELETE FROM candidates t USING gone JOIN blocks b ON " + SAME_KEY.format("gone") + " WHERE t.block_id = b.id",
    ),
    has_domain=True,
)

NOTES_TABLE = Table(
    KeyLayout(*BLOCK_KEY, Part.ID),
    ("n.algo", "n.digest", "n.size", "n.run"),
    "n.generation, n.noted_at FROM notes n WHERE n.domain_id = %(domain_id)s",
    lambda row: NoteRow(row[4], row[5]).encode(),
    (*KEY_NAMES, "run", "generation", "noted_at"),
    ("bigint", "bigint"),
    lambda key, value: NoteRow.decode(value),
    (
        "INSERT INTO notes (domain_id, algo, digest, size, run, generation, noted_at)"
        " SELECT %(domain_id)s::int, algo, digest, size, run, generation, noted_at FROM new"
        + upsert("notes", "domain_id, algo, digest, size, run", "generation, noted_at"),
    ),
    ("DELETE FROM notes b USING gone WHERE " + SAME_KEY.format("gone") + " AND b.run = gone.run",),
    has_domain=True,
)
