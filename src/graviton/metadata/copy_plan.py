"""What a copy of metadata finds on its three sides, and whether and how it may go on. docs/metadata-copy.md."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from graviton.errors import ConfigError
from graviton.metadata.copy_marks import HalfCopy
from graviton.metadata.marker import Side, StoreMarker, check_pair
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY
from graviton.metadata.read_only import MetadataStore, ReadOnly, ReadOnlyState, read_only_row
from graviton.metadata.rows import SCHEMA_NAMES, SCHEMAS, STORE
from graviton.ports.kv import ReadTransaction

__all__ = ["Found", "Place", "Way", "find", "plan", "read_found"]

OPERATION = "meta.copy"


class Place(NamedTuple):
    """A metadata store, and what people call it."""

    kv: MetadataStore
    where: str
    """Without secrets."""
    settings: str
    """What to set so that it is used, without secrets."""


class Found(NamedTuple):
    """One metadata store as found."""

    marker: StoreMarker | None
    is_half: bool
    """A restore or copy into it has not come to its end."""
    half: HalfCopy | None
    """What it is half a copy of; None also if a restore left it half."""
    read_only: ReadOnly | None
    has_data: bool
    """There is more than its marker and descriptions of formats."""


class Way(Enum):
    """How a copy goes on."""

    BEGIN = "begin"
    """The target is empty."""
    CLEAR = "clear"
    """The target is to be cleared first."""
    RESUME = "resume"
    """The target is half a copy of this source."""
    FINISH = "finish"
    """The target is in use already: the source is yet to be told."""


async def read_found(place: Place) -> Found:
    """Look at a metadata store. Raises ConfigError, IntegrityError for rows that cannot be read."""
    names = await place.kv.namespaces()
    return await place.kv.read(lambda tx: find(tx, names, place.where))


def find(tx: ReadTransaction, names: Sequence[str], where: str) -> Found:
    """The same, inside of a transaction."""
    marker, mark = tx.get(STORE, MARKER_KEY), tx.get(STORE, RESTORING_KEY)
    data = (name for name in names if name not in (STORE, SCHEMAS, SCHEMA_NAMES))
    return Found(
        None if marker is None else StoreMarker.decode(marker, where),
        mark is not None,
        None if mark is None else HalfCopy.decode(mark),
        read_only_row(tx),
        any(next(iter(tx.scan(name, limit=1)), None) is not None for name in data),
    )


def plan(source: Place, target: Place, ours: Found, theirs: Found, blocks: Side, replaces: bool) -> Way:
    """How to go on. Raises ConfigError, and Retired for a source that was moved elsewhere; nothing was touched."""
    if ours.marker is None or ours.is_half:
        what = "is not complete" if ours.is_half else "belongs to no store"
        raise _refusal(f"the metadata at {source.where} {what}", source, "Check --from, or the settings of the store.")
    if theirs.marker is not None and theirs.marker.metadata_id == ours.marker.metadata_id:
        text = f"the metadata at {target.where} is the source itself, or a copy of its file"
        raise _refusal(text, target, "Name another place with --to.")
    half = theirs.half if theirs.half is not None and theirs.half.source_id == ours.marker.metadata_id else None
    # A run that was given up while it was frozen may have written the marker when it woke up.
    expected = ours.marker._replace(metadata_id=half.metadata_id) if half is not None else None
    if blocks.marker is None or blocks.marker != expected:
        check_pair(blocks, Side(source.where, ours.marker, not ours.has_data, ours.read_only))
    if blocks.marker is None:  # and no data: initialised half way
        text = f"there is no store marker at {blocks.where}"
        raise _refusal(text, source, "Check the folder or bucket: is it mounted? Else run `graviton store init`.")
    if ours.read_only is not None:
        return _go_on(source, target, ours.read_only, theirs, blocks)
    return Way.RESUME if half is not None else _new_target(target, ours.marker, theirs, replaces)


def _go_on(source: Place, target: Place, row: ReadOnly, theirs: Found, blocks: Side) -> Way:
    """The source is closed."""
    if theirs.marker is not None and theirs.marker.metadata_id == row.metadata_id and not theirs.is_half:
        its_own = blocks.marker is not None and blocks.marker.metadata_id == row.metadata_id
        if not its_own and theirs.read_only is None:  # else it was in use, and was moved on since
            # To point to it is for people: a program that was frozen right before it did would put a second one in use.
            text = f"the copy at {target.where} is complete, and the blocks at {blocks.where} belong to other metadata"
            hint = f"If nobody uses that any more, run `graviton store adopt` with {target.settings}."
            raise _refusal(text, target, hint)
        return Way.FINISH
    if row.state is ReadOnlyState.MOVED:
        raise row.refusal(source.where)
    if theirs.half is not None and theirs.half.metadata_id == row.metadata_id:
        if blocks.marker is not None and blocks.marker.metadata_id not in (theirs.half.source_id, row.metadata_id):
            text = f"the blocks at {blocks.where} belong to other metadata by now, {blocks.marker.metadata_id}"
            raise _refusal(text, source, "Use that, or run `graviton store adopt` to say what belongs together.")
        return Way.RESUME
    raise _refusal(
        f"the metadata at {source.where} is being moved to {row.place}, not to {target.where}",
        target,
        "Finish that with the same --to, or give it up with --abort.",
    )


def _new_target(target: Place, ours: StoreMarker, theirs: Found, replaces: bool) -> Way:
    """The target is no half of this copy."""
    if theirs.is_half and theirs.half is None:
        hint = "Finish it (`graviton meta restore FILE`), or name another place with --to."
        raise _refusal(f"the metadata at {target.where} is half restored", target, hint)
    if theirs.half is not None:
        what = f"is half a copy of that at {theirs.half.source}"
    elif theirs.marker is not None and theirs.marker.store_id != ours.store_id:
        text = f"the metadata at {target.where} belongs to another store, {theirs.marker.store_id}"
        raise _refusal(text, target, "Name another place with --to.")
    elif theirs.read_only is not None and theirs.read_only.state is ReadOnlyState.MOVED:
        what = f"was moved to {theirs.read_only.place}, and its rows are still there"
    elif theirs.has_data or theirs.read_only is not None or theirs.marker is not None:
        text = f"the metadata store at {target.where} is not empty"
        raise _refusal(text, target, "Name an empty place with --to, or move away what is there.")
    else:
        return Way.BEGIN
    if not replaces:
        hint = "If nobody needs its rows any more, let them be removed with --replace-target."
        raise _refusal(f"the metadata at {target.where} {what}", target, hint)
    return Way.CLEAR


def _refusal(text: str, place: Place, hint: str) -> ConfigError:
    return ConfigError(text, operation=OPERATION, subject=place.where, hint=hint)
