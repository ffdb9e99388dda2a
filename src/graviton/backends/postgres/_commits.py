"""Commit as a transaction: point 3 of docs/block-life.md, in SQL.

A blob's row is the lock of everything that makes it visible or takes that away: its holders, and the state of the
owner it names. A commit locks its own owners first, which nobody else wants; then blobs' rows, in the order of keys;
then it looks, in a statement of its own, because a statement that waited for a lock still sees other tables as they
were before. A row that it sees and has not locked was made in between: then it begins again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from graviton.backends.postgres._arrays import Bigints, Byteas
from graviton.backends.postgres._blob_rows import BLOB_COLUMNS, Changes, Place, blob_record
from graviton.backends.postgres._confirms import Confirmation, Request, confirm_claims
from graviton.backends.postgres._events import blob_committed
from graviton.backends.postgres._keys import columns
from graviton.backends.postgres._owners import Owner, check_open, lock_owners, owner_states
from graviton.backends.postgres._scripts import Script, Statement
from graviton.backends.postgres._sealing import seals_lost
from graviton.backends.postgres._soundness import sound_ones
from graviton.backends.postgres._totals import Delta
from graviton.backends.postgres.errors import RacedError
from graviton.core.attributes import BinaryAttributes
from graviton.errors import Conflict
from graviton.metadata.manifest_checks import Answers, Suspect
from graviton.metadata.owners import FORGOTTEN_HINT
from graviton.metadata.preparing import Prepared
from graviton.ports.block_index import OwnerState
from graviton.ports.events import EventKind
from graviton.ports.manifests import BlobCommit, BlobRecord, CommitResult, StoreTotals

__all__ = ["Committed", "commit"]

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

_FIND_WRITTEN = """
SELECT k.owner_id FROM unnest(%(owners)b::bigint[], %(ends)b::bigint[], %(data)b::bytea[]) AS k(owner_id, ended, data)
CROSS JOIN LATERAL (SELECT data FROM pages WHERE owner_id = k.owner_id AND end_offset = k.ended LIMIT 1) AS p
WHERE p.data = k.data
"""
"""The sessions whose last page lies there as it was sealed (`_sealing.py`)."""


class Committed(NamedTuple):
    """What a group of commits did."""

    results: list[CommitResult]
    dropped: list[int]
    """Owners that no blob names any more."""


def commit(group: Sequence[Prepared], now_ns: int, answers: Answers, kinds: Collection[EventKind]) -> Script[Committed]:
    """Make blobs visible, or merge into those that are, as if one after the other. `answers` says of large manifests
    there whether they are sound, `kinds` which events are written. Raises Conflict, RacedError,
    UncheckedManifestsError."""
    changes = Changes(now_ns, kinds)
    owners, rows, there = yield from _confirm_and_see(group, changes)
    places = [Place(owner.domain_id, one.commit.key) for owner, one in zip(owners, group, strict=True)]
    broken = yield from _broken(group, places, there, answers)
    results = []
    for one, owner, place in zip(group, owners, places, strict=True):
        existing = there.get(place)
        if existing is None:
            record = _create(changes, one, owner, place, place in rows)
        elif existing.owner in broken:
            record = _replace(changes, one, owner, place, existing)
        else:
            record = _merge(changes, one.commit, owner, place, existing)
        if record.owner == one.commit.session:
            changes.events.append(blob_committed(place.domain_id, place.key.text, record.block_count))
        rows.add(place)
        there[place] = record
        results.append(CommitResult(record, existing is None))
    yield from changes.write(group[0].commit.session)
    return Committed(results, changes.dropped)


def _confirm_and_see(
    group: Sequence[Prepared], changes: Changes
) -> Script[tuple[list[Owner], set[Place], dict[Place, BlobRecord]]]:
    """Lock the owners of a group, confirm the last blocks, look that they have lost nothing in a crash, and lock the
    rows of blobs that there are: the owners, which rows these are, and the records of those blobs that are visible. The
    kinds of claims stay as they are: they say something about open owners only."""
    numbers = [one.commit.session for one in group]
    if len(set(numbers)) < len(numbers):
        raise Conflict("a session cannot commit twice", operation="commit")
    requests = [Request(one.commit.session, one.commit.confirm, one.commit.pages) for one in group]
    confirming = confirm_claims(requests, changes.now_ns, changes.kinds)
    ordered = sorted(group, key=lambda one: one.commit.key.to_bytes())
    blobs = {"owners": Bigints(one.commit.session for one in ordered)} | columns([one.commit.key for one in ordered])
    locked, confirmed, rows_locked, seen, *written = yield [
        lock_owners(sorted(numbers)),
        confirming.statement,
        Statement(_LOCK_BLOBS, blobs),
        Statement(_SEE_BLOBS, blobs),
        *_find_written(group),
    ]
    if seen.changed > rows_locked.changed:
        raise RacedError("somebody else made the same blob visible just now, and may take it away again")
    by_number = {row[0]: row for row in locked.rows}
    owners = [check_open(number, [by_number[number]] if number in by_number else []) for number in numbers]
    done = confirming.outcome(confirmed)
    changes.totals += done.added
    _check_whole(group, owners, done, {session for result in written for (session,) in result.rows})
    rows: set[Place] = set()
    there: dict[Place, BlobRecord] = {}
    for row in seen.rows:
        record = blob_record(row)
        place = Place(row[11], record.key)
        rows.add(place)
        if owner_states[row[10]] is OwnerState.COMMITTED:
            there[place] = record
    return owners, rows, there


def _find_written(group: Sequence[Prepared]) -> list[Statement]:
    """The statement that looks for the last pages that were written before; none if there are none."""
    there = [(one.commit.session, *one.last_written) for one in group if one.last_written is not None]
    if not there:
        return []
    owners, ends, data = zip(*there, strict=True)
    return [Statement(_FIND_WRITTEN, {"owners": Bigints(owners), "ends": Bigints(ends), "data": Byteas(data)})]


def _check_whole(group: Sequence[Prepared], owners: Sequence[Owner], done: Confirmation, written: set[int]) -> None:
    """Raises Conflict for a session with blocks to be confirmed, or without its pages."""
    for one, owner in zip(group, owners, strict=True):
        left = owner.unconfirmed - done.written[owner.id]
        if left:
            raise Conflict(
                f"{left} blocks of session {owner.id:x} are not confirmed",
                operation="commit",
                subject=one.commit.key.text,
                hint=FORGOTTEN_HINT,
            )
        if one.last_written is not None and owner.id not in written:
            raise seals_lost(owner.id, one.commit.key)


def _broken(
    group: Sequence[Prepared], places: Sequence[Place], there: dict[Place, BlobRecord], answers: Answers
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


def _create(changes: Changes, one: Prepared, owner: Owner, place: Place, has_row: bool) -> BlobRecord:
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


def _merge(changes: Changes, one: BlobCommit, owner: Owner, place: Place, existing: BlobRecord) -> BlobRecord:
    changes.drop(owner.id)
    said = BinaryAttributes(one.attributes.advertised)  # what is confirmed belongs to the manifest that stays
    record = existing._replace(attributes=existing.attributes.merge(said))
    if record.attributes != existing.attributes:
        is_new = changes.blobs[place][1] if place in changes.blobs else False
        changes.blobs[place] = record, is_new
    changes.holders[existing.owner, one.holder] = None
    return record


def _replace(changes: Changes, one: Prepared, owner: Owner, place: Place, existing: BlobRecord) -> BlobRecord:
    """Repair: the new manifest takes the place of a damaged one, with the holders and attributes of the blob."""
    record = _create(changes, one, owner, place, True)
    record = record._replace(attributes=existing.attributes.merge(record.attributes))
    changes.blobs[place] = record, False
    # The blob was counted before.
    changes.totals.append(Delta(place.domain_id, StoreTotals(blobs=-1, logical_bytes=-place.key.size)))
    changes.moved.append((existing.owner, owner.id))
    changes.drop(existing.owner)
    return record
