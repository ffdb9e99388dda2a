"""Commit, delete and undelete as transactions: points 3 and 4 of docs/block-life.md, in SQL.

A blob's row is the lock of everything that makes it visible or takes that away: its holders, and the state of the
owner it names. A commit locks its own owners first, which nobody else wants; then blobs' rows, in the order of keys;
then it looks, in a statement of its own, because a statement that waited for a lock still sees other tables as they
were before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._arrays import Bigints, Byteas, Integers, Smallints, Texts
from graviton.backends.postgres._confirms import confirm_claims
from graviton.backends.postgres._events import INSERT_EVENTS, Told, blob_committed, event_values, tell
from graviton.backends.postgres._keys import blob_key, columns, key_columns
from graviton.backends.postgres._owners import Owner, check_open, lock_owners, owner_states
from graviton.backends.postgres._scripts import Last, Row, Script, Statement
from graviton.backends.postgres._soundness import sound_ones
from graviton.backends.postgres._totals import TOTALS_VALUES, Delta, add_totals, totals_values
from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey
from graviton.errors import Conflict
from graviton.metadata.manifest_checks import Answers, Suspect
from graviton.metadata.preparing import Prepared
from graviton.ports.block_index import OwnerState
from graviton.ports.events import EventKind
from graviton.ports.manifests import BlobCommit, BlobRecord, CommitResult, StoreTotals

__all__ = ["BLOB_COLUMNS", "Committed", "blob_record", "commit", "delete", "undelete"]

BLOB_COLUMNS = """
b.algo, b.digest, b.size, b.owner_id, b.page_count, b.block_count, b.pages_digest, b.chunker, b.created_at, b.attributes
"""

_BLOBS = """
FROM unnest(%(owners)b::bigint[], %(algos)b::smallint[], %(digests)b::bytea[], %(sizes)b::bigint[])
    AS k(owner_id, algo, digest, size)
CROSS JOIN LATERAL (SELECT domain_id FROM owners WHERE id = k.owner_id LIMIT 1) AS s
CROSS JOIN LATERAL (
    SELECT * FROM blobs WHERE domain_id = s.domain_id AND algo = k.algo AND digest = k.digest AND size = k.size LIMIT 1
"""
"""The rows of blobs that sessions want to commit, in the domains of these; the parenthesis is open."""

_LOCK_BLOBS = f"SELECT {_BLOBS} FOR NO KEY UPDATE) AS b"
"""In the order in which they are asked for: that of keys."""

_SEE_BLOBS = f"""
SELECT {BLOB_COLUMNS}, o.state, b.domain_id {_BLOBS}) AS b
CROSS JOIN LATERAL (SELECT state FROM owners WHERE id = b.owner_id LIMIT 1) AS o
"""

_LOCK_BLOB = """
SELECT owner_id FROM blobs
WHERE domain_id = %(domain)b AND algo = %(algo)b AND digest = %(digest)b AND size = %(size)b FOR NO KEY UPDATE
"""

_SEE_OWNER = """
SELECT o.id, o.state, b.block_count FROM blobs b JOIN owners o ON o.id = b.owner_id
WHERE b.domain_id = %(domain)b AND b.algo = %(algo)b AND b.digest = %(digest)b AND b.size = %(size)b
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

_DELETE_HOLDER = "DELETE FROM holders WHERE owner_id = %(owner)b AND name = %(holder)b"
_ANY_HOLDER = "SELECT FROM holders WHERE owner_id = %(owner)b LIMIT 1"


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


class Committed(NamedTuple):
    """What a group of commits did."""

    results: list[CommitResult]
    dropped: list[int]
    """Owners that no blob names any more."""


class _Place(NamedTuple):
    domain_id: int
    key: BlobKey


class _Changes:
    """What a group of commits writes, collected so that each table is written at once."""

    def __init__(self, now_ns: int, kinds: Collection[EventKind]) -> None:
        self.now_ns = now_ns
        self.kinds = kinds
        self.events: list[Told] = []
        self.pages: list[tuple[int, int, bytes]] = []
        """Owner, end and stored form."""
        self.blobs: dict[_Place, tuple[BlobRecord, bool]] = {}
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


def _in_order(row: tuple[_Place, Any]) -> tuple[int, bytes]:
    return row[0].domain_id, row[0].key.to_bytes()


def _blob_columns(rows: Sequence[tuple[_Place, BlobRecord]]) -> dict[str, Any]:
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


def _blob_values(place: _Place, record: BlobRecord) -> dict[str, Any]:
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


def commit(group: Sequence[Prepared], now_ns: int, answers: Answers, kinds: Collection[EventKind]) -> Script[Committed]:
    """Make blobs visible, or merge into those that are, as if one after the other. `answers` says of large manifests
    there whether they are sound, `kinds` which events are written. Raises Conflict, InvalidInput,
    UncheckedManifestsError."""
    changes = _Changes(now_ns, kinds)
    owners, rows, there = yield from _confirm_and_see(group, changes)
    places = [_Place(owner.domain_id, one.commit.key) for owner, one in zip(owners, group, strict=True)]
    broken = yield from _broken(group, places, there, answers)
    results = []
    for one, owner, place in zip(group, owners, places, strict=True):
        existing = there.get(place)
        if existing is None:
            record = _create(changes, one, owner, place, place in rows)
            changes.events.append(blob_committed(place.domain_id, place.key.text, record.block_count))
        elif existing.owner in broken:
            record = _replace(changes, one, owner, place, existing)
        else:
            record = _merge(changes, one.commit, owner, place, existing)
        rows.add(place)
        there[place] = record
        results.append(CommitResult(record, existing is None))
    yield from changes.write(group[0].commit.session)
    return Committed(results, changes.dropped)


def _confirm_and_see(
    group: Sequence[Prepared], changes: _Changes
) -> Script[tuple[list[Owner], set[_Place], dict[_Place, BlobRecord]]]:
    """Lock the owners of a group, confirm the last blocks, and lock the rows of blobs that there are: the owners, which
    rows these are, and the records of those blobs that are visible. The kinds of claims stay as they are: they say
    something about open owners only."""
    numbers = [one.commit.session for one in group]
    if len(set(numbers)) < len(numbers):
        raise Conflict("a session cannot commit twice", operation="commit")
    requests = [(one.commit.session, one.commit.confirm) for one in group]
    confirming = confirm_claims(requests, changes.now_ns, changes.kinds)
    ordered = sorted(group, key=lambda one: one.commit.key.to_bytes())
    blobs = {"owners": Bigints(one.commit.session for one in ordered)} | columns([one.commit.key for one in ordered])
    locked, confirmed, _, seen = yield [
        lock_owners(sorted(numbers)),
        confirming.statement,
        Statement(_LOCK_BLOBS, blobs),
        Statement(_SEE_BLOBS, blobs),
    ]
    by_number = {row[0]: row for row in locked.rows}
    owners = [check_open(number, [by_number[number]] if number in by_number else []) for number in numbers]
    done = confirming.outcome(confirmed)
    changes.totals += done.added
    for one, owner in zip(group, owners, strict=True):
        left = owner.unconfirmed - done.written[owner.id]
        if left:
            raise Conflict(
                f"{left} blocks of session {owner.id:x} are not confirmed",
                operation="commit",
                subject=one.commit.key.text,
            )
    rows: set[_Place] = set()
    there: dict[_Place, BlobRecord] = {}
    for row in seen.rows:
        record = blob_record(row)
        place = _Place(row[11], record.key)
        rows.add(place)
        if owner_states[row[10]] is OwnerState.COMMITTED:
            there[place] = record
    return owners, rows, there


def _broken(
    group: Sequence[Prepared], places: Sequence[_Place], there: dict[_Place, BlobRecord], answers: Answers
) -> Script[set[int]]:
    """The owners of visible blobs whose manifests must be replaced. Where the group brings the very same pages, it has
    confirmed the very same blocks just now."""
    same = {
        place
        for one, place in zip(group, places, strict=True)
        if place in there and there[place].pages_digest == one.pages_digest
    }
    suspects = [Suspect(record, b"", place not in same) for place, record in there.items()]
    sound = yield from sound_ones(suspects, answers)
    return {one.record.owner for one in suspects if one.question not in sound}


def _create(changes: _Changes, one: Prepared, owner: Owner, place: _Place, has_row: bool) -> BlobRecord:
    record = BlobRecord(
        place.key,
        owner.id,
        one.page_count,
        one.block_count,
        one.pages_digest,
        one.commit.chunker,
        changes.now_ns,
        one.commit.attributes,
    )
    changes.pages += [(owner.id, page.end, data) for page, data in one.sealed]
    changes.states[owner.id] = OwnerState.COMMITTED, 0
    changes.blobs[place] = record, not has_row
    changes.holders[owner.id, one.commit.holder] = None
    changes.totals.append(Delta(place.domain_id, StoreTotals(blobs=1, logical_bytes=place.key.size)))
    return record


def _merge(changes: _Changes, one: BlobCommit, owner: Owner, place: _Place, existing: BlobRecord) -> BlobRecord:
    changes.drop(owner.id)
    said = BinaryAttributes(one.attributes.advertised)  # what is confirmed belongs to the manifest that stays
    record = existing._replace(attributes=existing.attributes.merge(said))
    if record.attributes != existing.attributes:
        is_new = changes.blobs[place][1] if place in changes.blobs else False
        changes.blobs[place] = record, is_new
    changes.holders[existing.owner, one.holder] = None
    return record


def _replace(changes: _Changes, one: Prepared, owner: Owner, place: _Place, existing: BlobRecord) -> BlobRecord:
    """Repair: the new manifest takes the place of a damaged one, with the holders and attributes of the blob."""
    record = _create(changes, one, owner, place, True)
    record = record._replace(attributes=existing.attributes.merge(record.attributes))
    changes.blobs[place] = record, False
    # The blob was counted before.
    changes.totals.append(Delta(place.domain_id, StoreTotals(blobs=-1, logical_bytes=-place.key.size)))
    changes.moved.append((existing.owner, owner.id))
    changes.drop(existing.owner)
    return record


def delete(domain_id: int, key: BlobKey, holder: str, now_ns: int, kinds: Collection[EventKind]) -> Script[bool]:
    """Take a holder away, and with the last one drop the owner; whether it held the blob."""
    values = {"domain": domain_id} | key_columns(key)
    _, seen = yield [Statement(_LOCK_BLOB, values), Statement(_SEE_OWNER, values)]
    if not seen.rows or owner_states[seen.rows[0][1]] is not OwnerState.COMMITTED:
        return False
    owner = seen.rows[0][0]
    gone, left = yield [
        Statement(_DELETE_HOLDER, {"owner": owner, "holder": holder}),
        Statement(_ANY_HOLDER, {"owner": owner}),
    ]
    if gone.changed and not left.changed:
        delta = Delta(domain_id, StoreTotals(blobs=-1, logical_bytes=-key.size))
        event = Told(domain_id, EventKind.BLOB_DELETED, key.text)
        yield Last(
            [
                _turned(owner, OwnerState.DROPPED, now_ns),
                *add_totals(owner, [delta]),
                *tell(now_ns, event, kinds),
            ]
        )
    return gone.changed > 0


def undelete(domain_id: int, key: BlobKey, holder: str, now_ns: int, kinds: Collection[EventKind]) -> Script[bool]:
    """Turn a dropped owner back; False if the blob is not deleted or lost a claim since. Whoever was told that it is
    gone is told that it is there again."""
    values = {"domain": domain_id} | key_columns(key)
    _, seen = yield [Statement(_LOCK_BLOB, values), Statement(_SEE_OWNER, values)]
    if not seen.rows:
        return False
    # Who takes claims away locks the owner, not the blob.
    (locked,) = yield [lock_owners([seen.rows[0][0]])]
    owner = Owner.of(locked.rows[0])
    if owner.state is not OwnerState.DROPPED or owner.losing_claims:
        return False
    delta = Delta(domain_id, StoreTotals(blobs=1, logical_bytes=key.size))
    batch = [
        _turned(owner.id, OwnerState.COMMITTED, now_ns),
        Statement(_INSERT_HOLDERS, {"owners": Bigints([owner.id]), "names": Texts([holder])}),
        *add_totals(owner.id, [delta]),
        *tell(now_ns, blob_committed(domain_id, key.text, seen.rows[0][2]), kinds),
    ]
    yield Last(batch)
    return True


def _turned(owner: int, state: OwnerState, now_ns: int) -> Statement:
    return Statement(
        _TURN,
        {"owners": Bigints([owner]), "states": Smallints([state.value]), "unconfirmed": Integers([0]), "now": now_ns},
    )
