"""Rows of blobs, pages and holders as scripts see them, and all that a group of commits writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._arrays import Bigints, Byteas, Integers, Smallints, Texts
from graviton.backends.postgres._events import INSERT_EVENTS, Told, event_values
from graviton.backends.postgres._keys import blob_key, columns, key_columns
from graviton.backends.postgres._scripts import Last, Row, Script, Statement
from graviton.backends.postgres._totals import TOTALS_VALUES, Delta, totals_values
from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey
from graviton.ports.block_index import OwnerState
from graviton.ports.events import EventKind
from graviton.ports.manifests import BlobRecord

__all__ = ["BLOB_COLUMNS", "Changes", "Place", "blob_record", "insert_holder", "insert_pages", "turned"]

BLOB_COLUMNS = """
b.algo, b.digest, b.size, b.owner_id, b.page_count, b.block_count, b.pages_digest, b.chunker, b.created_at, b.attributes
"""

_BLOB_VALUES = """
    unnest(%(domains)b::int[], %(algos)b::smallint[], %(digests)b::bytea[], %(sizes)b::bigint[],
           %(blob_owners)b::bigint[], %(page_counts)b::int[], %(block_counts)b::bigint[], %(pages_digests)b::bytea[],
           %(chunkers)b::text[], %(created)b::bigint[], %(attributes)b::bytea[])
"""

_WRITE = f"""
WITH made AS (
    INSERT INTO blobs (domain_id, algo, digest, size, owner_id, page_count, block_count, pages_digest, chunker,
                       created_at, attributes)
    SELECT * FROM {_BLOB_VALUES}
), paged AS (
    INSERT INTO pages (owner_id, end_offset, data)
    SELECT * FROM unnest(%(page_owners)b::bigint[], %(ends)b::bigint[], %(pages)b::bytea[])
), turned AS (
    UPDATE owners SET state = n.state, unconfirmed = n.unconfirmed, changed_at = %(now)b
    FROM unnest(%(owners)b::bigint[], %(states)b::smallint[], %(unconfirmed)b::int[]) AS n(id, state, unconfirmed)
    WHERE owners.id = n.id AND owners.id = ANY(%(owners)b::bigint[])
), held AS (
    INSERT INTO holders (owner_id, name) SELECT * FROM unnest(%(held)b::bigint[], %(names)b::text[])
    ON CONFLICT DO NOTHING
), told AS ({INSERT_EVENTS})
INSERT INTO totals (domain_id, suffix, blobs, logical_bytes, blocks, stored_bytes)
SELECT * FROM {TOTALS_VALUES}
"""
"""All rows of a group of commits at once: a statement costs client and server more than a row does."""

_UPDATE_BLOB = """
UPDATE blobs SET owner_id = %(blob_owner)b, page_count = %(page_count)b, block_count = %(block_count)b,
    pages_digest = %(pages_digest)b, chunker = %(chunker)b, created_at = %(created)b, attributes = %(attributes)b
WHERE domain_id = %(domain)b AND algo = %(algo)b AND digest = %(digest)b AND size = %(size)b
"""

_INSERT_PAGES = """
INSERT INTO pages (owner_id, end_offset, data)
SELECT * FROM unnest(%(owners)b::bigint[], %(ends)b::bigint[], %(data)b::bytea[])
ON CONFLICT (owner_id, end_offset) DO UPDATE SET data = EXCLUDED.data
"""

_TURN = """
UPDATE owners SET state = n.state, unconfirmed = n.unconfirmed, changed_at = %(now)b
FROM unnest(%(owners)b::bigint[], %(states)b::smallint[], %(unconfirmed)b::int[]) AS n(id, state, unconfirmed)
WHERE owners.id = n.id AND owners.id = ANY(%(owners)b::bigint[])
"""

_INSERT_HOLDERS = """
INSERT INTO holders (owner_id, name) SELECT * FROM unnest(%(owners)b::bigint[], %(names)b::text[])
ON CONFLICT DO NOTHING
"""

_MOVE_HOLDERS = """
WITH gone AS (DELETE FROM holders WHERE owner_id = %(old)b RETURNING name)
INSERT INTO holders (owner_id, name) SELECT %(new)b, name FROM gone ON CONFLICT DO NOTHING
"""


def blob_record(row: Row) -> BlobRecord:
    """The record in the columns `BLOB_COLUMNS`."""
    algo, digest, size, owner, pages, blocks, pages_digest, chunker, created, attributes = row[:10]
    return BlobRecord(
        blob_key(algo, digest, size),
        owner,
        pages,
        blocks,
        pages_digest,
        chunker,
        created,
        BinaryAttributes.from_bytes(attributes),
    )


def insert_pages(owner: int, pages: Sequence[tuple[int, bytes]]) -> Statement:
    """Write pages (end offset, stored form) of an owner; written again, they are the same."""
    return Statement(
        _INSERT_PAGES,
        {
            "owners": Bigints([owner] * len(pages)),
            "ends": Bigints(end for end, _ in pages),
            "data": Byteas(data for _, data in pages),
        },
    )


def insert_holder(owner: int, holder: str) -> Statement:
    """Let somebody hold what `owner` owns, unless he does already."""
    return Statement(_INSERT_HOLDERS, {"owners": Bigints([owner]), "names": Texts([holder])})


def turned(owner: int, state: OwnerState, now_ns: int) -> Statement:
    """Put an owner into another state."""
    return Statement(
        _TURN,
        {"owners": Bigints([owner]), "states": Smallints([state.value]), "unconfirmed": Integers([0]), "now": now_ns},
    )


class Place(NamedTuple):
    """A blob in its domain."""

    domain_id: int
    key: BlobKey


class Changes:
    """What a group of commits writes, collected so that all of it is written at once."""

    def __init__(self, now_ns: int, kinds: Collection[EventKind]) -> None:
        self.now_ns = now_ns
        self.kinds = kinds
        self.events: list[Told] = []
        self.pages: list[tuple[int, int, bytes]] = []
        """Owner, end and stored form."""
        self.blobs: dict[Place, tuple[BlobRecord, bool]] = {}
        """Record, and whether its row is new."""
        self.states: dict[int, tuple[OwnerState, int]] = {}
        """State and unconfirmed claims by owner."""
        self.holders: dict[tuple[int, str], None] = {}
        self.moved: list[tuple[int, int]] = []
        self.totals: list[Delta] = []
        self.dropped: list[int] = []

    def drop(self, owner: int, unconfirmed: int = 0) -> None:
        self.states[owner] = OwnerState.DROPPED, unconfirmed
        self.dropped.append(owner)

    def write(self, owner: int) -> Script[None]:
        """Everything, in one batch. Where somebody else makes a row of the same blob, the server refuses ours, and the
        transaction begins again."""
        batch = [
            Statement(_UPDATE_BLOB, _blob_values(place, record))
            for place, (record, is_new) in sorted(self.blobs.items(), key=_in_order)
            if not is_new
        ]
        batch += [Statement(_MOVE_HOLDERS, {"old": before, "new": after}) for before, after in self.moved]
        yield Last([*batch, Statement(_WRITE, self._values(owner))])

    def _values(self, owner: int) -> dict[str, Any]:
        states = self.states.values()
        return {
            **_blob_columns([(place, record) for place, (record, is_new) in self.blobs.items() if is_new]),
            "page_owners": Bigints(owner for owner, _, _ in self.pages),
            "ends": Bigints(end for _, end, _ in self.pages),
            "pages": Byteas(data for _, _, data in self.pages),
            "now": self.now_ns,
            "owners": Bigints(self.states),
            "states": Smallints(state.value for state, _ in states),
            "unconfirmed": Integers(count for _, count in states),
            "held": Bigints(owner for owner, _ in self.holders),
            "names": Texts(name for _, name in self.holders),
            **event_values(self.events, self.kinds),
            **totals_values(owner, self.totals),
        }


def _in_order(row: tuple[Place, Any]) -> tuple[int, bytes]:
    return row[0].domain_id, row[0].key.to_bytes()


def _blob_columns(rows: Sequence[tuple[Place, BlobRecord]]) -> dict[str, Any]:
    """Rows of blobs as arrays."""
    rows = sorted(rows, key=_in_order)
    records = [record for _, record in rows]
    return {
        "domains": Integers(place.domain_id for place, _ in rows),
        "blob_owners": Bigints(record.owner for record in records),
        "page_counts": Integers(record.page_count for record in records),
        "block_counts": Bigints(record.block_count for record in records),
        "pages_digests": Byteas(record.pages_digest for record in records),
        "chunkers": Texts(record.chunker for record in records),
        "created": Bigints(record.created_at_ns for record in records),
        "attributes": Byteas(record.attributes.to_bytes() for record in records),
        **columns([record.key for record in records]),
    }


def _blob_values(place: Place, record: BlobRecord) -> dict[str, Any]:
    """The row of one blob."""
    return {
        "domain": place.domain_id,
        "blob_owner": record.owner,
        "page_count": record.page_count,
        "block_count": record.block_count,
        "pages_digest": record.pages_digest,
        "chunker": record.chunker,
        "created": record.created_at_ns,
        "attributes": record.attributes.to_bytes(),
        **key_columns(place.key),
    }
