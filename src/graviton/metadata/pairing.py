"""Reads, writes and adopts the two store markers; the rules are in `marker.py`.

The metadata's marker is written first, by a transaction that only one of several processes can win, and the block
side's after it, with the same bytes. A crash between the two leaves an UNFINISHED store, which the next writer
finishes; two processes that initialise at once end with one store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from graviton.core.clock import Clock, SystemClock
from graviton.core.hashing import HashAlgo
from graviton.errors import AlreadyExists, ConfigError, Conflict, IntegrityError
from graviton.metadata.copy_marks import HalfCopy
from graviton.metadata.marker import Decision, MarkerStore, Side, StoreMarker, check_pair, new_id
from graviton.metadata.read_only import READ_ONLY_KEY, MetadataStore, ReadOnly, read_only_row
from graviton.metadata.rows import DATA_NAMESPACES, STORE
from graviton.metadata.schema_store import register_builtin_schemas
from graviton.ports.kv import KeyValueStore, ReadTransaction, Transaction

__all__ = [
    "MARKER_KEY",
    "RESTORING_KEY",
    "BlocksEmpty",
    "Pair",
    "adopt",
    "check_adoptable",
    "check_blocks_of",
    "initialise",
    "look",
    "read_meta_side",
    "take_back",
]

MARKER_KEY = b"marker"
"""Key of the metadata's marker in the namespace `store`."""

RESTORING_KEY = b"restoring"
"""Key in the namespace `store` that is there while a restore, or a copy into it, has not come to its end."""

BlocksEmpty = Callable[[], Awaitable[bool]]
"""Whether the block store holds no block; asked only when a marker is missing, or its metadata."""


class Pair(NamedTuple):
    """What was found."""

    decision: Decision
    marker: StoreMarker | None
    """None exactly when the decision is ABSENT."""
    read_only: ReadOnly | None = None
    """Why the metadata takes no changes, if it takes none."""


async def read_meta_side(kv: KeyValueStore, where: str) -> Side:
    """The metadata side as found. Raises ConfigError while a restore or copy is unfinished, IntegrityError, ConfigError
    for a marker that cannot be read."""
    data, restoring, read_only, empty = await kv.read(_read_rows)
    if restoring is not None:
        half = HalfCopy.decode(restoring)
        if half is not None:
            raise ConfigError(
                f"the metadata at {where} is half a copy of that at {half.source}",
                operation="store.open",
                subject=where,
                hint="Run `graviton meta copy` again; it goes on. Until then the store is used where it was.",
            )
        raise ConfigError(
            f"a restore of the metadata at {where} did not come to its end",
            operation="store.open",
            subject=where,
            hint="Run `graviton meta restore FILE` again; it starts over.",
        )
    return Side(where, None if data is None else StoreMarker.decode(data, where), empty, read_only)


def _read_rows(tx: ReadTransaction) -> tuple[bytes | None, bytes | None, ReadOnly | None, bool]:
    empty = all(next(iter(tx.scan(namespace, limit=1)), None) is None for namespace in DATA_NAMESPACES)
    return tx.get(STORE, MARKER_KEY), tx.get(STORE, RESTORING_KEY), read_only_row(tx), empty


async def look(kv: KeyValueStore, kv_where: str, markers: MarkerStore, blocks_empty: BlocksEmpty) -> Pair:
    """Compare both sides and change nothing: what every process does before it reads. Raises ConfigError,
    IntegrityError."""
    try:
        return await _look_once(kv, kv_where, markers, blocks_empty)
    except (ConfigError, IntegrityError):
        # Perhaps somebody initialised the store between the reads of the two sides. That happens once, so what is
        # refused twice is refused.
        return await _look_once(kv, kv_where, markers, blocks_empty)


async def _look_once(kv: KeyValueStore, kv_where: str, markers: MarkerStore, blocks_empty: BlocksEmpty) -> Pair:
    meta = await read_meta_side(kv, kv_where)
    data = await markers.read()
    marker = None if data is None else StoreMarker.decode(data, markers.where)
    empty = await blocks_empty() if marker is None else False
    return Pair(check_pair(Side(markers.where, marker, empty), meta), meta.marker, meta.read_only)


async def initialise(
    kv: KeyValueStore,
    kv_where: str,
    markers: MarkerStore,
    blocks_empty: BlocksEmpty,
    hash: HashAlgo,
    chunker: str,
    clock: Clock | None = None,
) -> tuple[StoreMarker, bool]:
    """The marker of the store, which is made if there is none: what `graviton store init` and a put do before their
    first write. Also whether it was made, or finished, by this call. Raises ConfigError, IntegrityError,
    PermissionDenied, StorageFull, Unavailable."""
    found = await look(kv, kv_where, markers, blocks_empty)
    if found.decision is Decision.READY and found.marker is not None:
        return found.marker, False
    proposal = StoreMarker.create(hash, chunker, clock or SystemClock())
    data = await kv.transact(lambda tx: _put_if_absent(tx, proposal))
    try:
        await markers.write_new(data)
    except AlreadyExists:
        pass  # somebody else finished it: compared below
    settled = await look(kv, kv_where, markers, blocks_empty)
    if settled.decision is not Decision.READY or settled.marker is None:
        raise ConfigError(f"the store marker at {markers.where} vanished while it was made", operation="store.init")
    return settled.marker, True


def _put_if_absent(tx: Transaction, proposal: StoreMarker) -> bytes:
    """The marker there, which is `proposal` if there was none; with it go the descriptions of our formats."""
    there = tx.get(STORE, MARKER_KEY)
    if there is not None:
        return there
    if tx.get(STORE, RESTORING_KEY) is not None:
        raise ConfigError("somebody fills this metadata store just now", operation="store.init")
    data = proposal.encode()
    tx.put(STORE, MARKER_KEY, data)
    register_builtin_schemas(tx, proposal.created_at_ns)
    return data


async def check_adoptable(kv: KeyValueStore, kv_where: str, blocks_where: str, blocks_empty: BlocksEmpty) -> None:
    """Raise ConfigError if there are blocks and metadata that knows none: then the metadata is lost, or is somewhere
    else, and a store of the two would look clean and hold nothing."""
    if (await read_meta_side(kv, kv_where)).empty and not await blocks_empty():
        raise ConfigError(
            f"there are blocks at {blocks_where}, and the metadata at {kv_where} is empty: no blob would be left",
            operation="store.adopt",
            subject=kv_where,
            hint="Check the metadata path, or bring the metadata back (`graviton meta restore FILE`) and adopt then."
            " Only if there is no backup: `graviton store adopt --without-metadata`, then put the files again.",
        )


async def check_blocks_of(
    backed_up: StoreMarker, backup: str, markers: MarkerStore, trusted: BlocksEmpty | None = None
) -> None:
    """Raise ConfigError unless the blocks that `markers` lies beside are those of the store in `backup`. In another
    place none of them is found, and the restored metadata would call all of them lost.

    `trusted`, given where no block is looked for and so none called lost, tells whether there is none: blocks whose
    marker is lost are then believed to be the right ones. Those with another store's marker never are."""
    data = await markers.read()
    found = None if data is None else StoreMarker.decode(data, markers.where)
    if found is not None and found.store_id == backed_up.store_id:
        return
    if found is None and trusted is not None and not await trusted():
        return
    there = "there is no store" if found is None else f"there is store {found.store_id}"
    lost = " If it is lost: `graviton meta restore --trust FILE`, then `graviton store adopt`." if found is None else ""
    raise ConfigError(
        f"the metadata in {backup} is of store {backed_up.store_id}, and at {markers.where} {there}",
        operation="meta.restore",
        subject=markers.where,
        hint="Check where the blocks are said to be. If you copied them to this place, copy their marker"
        f" (graviton-store.json) too.{lost}",
    )


async def adopt(
    kv: KeyValueStore,
    kv_where: str,
    markers: MarkerStore,
    hash: HashAlgo,
    chunker: str,
    clock: Clock | None = None,
) -> StoreMarker:
    """Say that this metadata and these blocks belong together from now on: `graviton store adopt`.

    What the metadata says is taken; without a marker there, what the block side says, under a new metadata id; without
    any, a new store with `hash` and `chunker`. Interrupted, it can be run again. Raises ConfigError or IntegrityError
    for a marker that cannot be read (a damaged one is not overwritten), PermissionDenied, StorageFull, Unavailable.
    """
    meta = await read_meta_side(kv, kv_where)
    if meta.read_only is not None:
        refusal = meta.read_only.refusal(kv_where)
        raise ConfigError(
            f"{refusal.message}, so it cannot manage blocks",
            operation="store.adopt",
            subject=kv_where,
            hint=f"{refusal.hint} If {meta.read_only.place} is lost for good: `graviton store adopt --retired`.",
        )
    data = await markers.read()
    theirs = None if data is None else StoreMarker.decode(data, markers.where)
    if meta.marker is None:
        made = StoreMarker.create(hash, chunker, clock or SystemClock())
        proposal = made if theirs is None else theirs._replace(metadata_id=new_id())
        encoded = await kv.transact(lambda tx: _put_if_absent(tx, proposal))
        marker = StoreMarker.decode(encoded, kv_where)
    else:
        marker = meta.marker
    if theirs != marker:
        await _write_marker(markers, marker, is_new=theirs is None)
    return marker


async def _write_marker(markers: MarkerStore, marker: StoreMarker, *, is_new: bool) -> None:
    if not is_new:
        await markers.replace(marker.encode())
        return
    try:
        await markers.write_new(marker.encode())
    except AlreadyExists:
        raise ConfigError(
            f"somebody else wrote a store marker at {markers.where} meanwhile",
            operation="store.adopt",
            subject=markers.where,
            hint="Look at it, then run the command again.",
        ) from None


async def take_back(kv: MetadataStore, kv_where: str, markers: MarkerStore) -> None:
    """Say that the metadata that took the place of this one, or was to take it, is lost for good: this one takes
    changes again, and the blocks are its own. It gets a new metadata id, so that the other one is refused should it
    turn up; a copy that is still at it ends in Conflict. Interrupted, it can be run again. Raises PermissionDenied,
    StorageFull, Unavailable, and Conflict if another copy begins meanwhile."""
    if await kv.read(read_only_row) is None:
        return
    await kv.check_gate()
    run, metadata_id = new_id(), new_id()

    def stop_copy(tx: Transaction) -> StoreMarker | None:
        row, data = read_only_row(tx), tx.get(STORE, MARKER_KEY)
        if row is None or data is None:
            return None
        tx.put(STORE, READ_ONLY_KEY, row._replace(run=run).encode())
        return StoreMarker.decode(data, kv_where)._replace(metadata_id=metadata_id)

    # In this order: docs/metadata-copy.md. Were it opened before the blocks are its own, a copy right before its last
    # step would put a second one in use.
    marker = await kv.change_gate(stop_copy)
    if marker is None:
        return
    await _write_marker(markers, marker, is_new=await markers.read() is None)

    def open_again(tx: Transaction) -> None:
        row = read_only_row(tx)
        if row is None and tx.get(STORE, MARKER_KEY) == marker.encode():
            return  # done before, and the reply was lost
        if row is None or row.run != run:
            raise Conflict(
                f"somebody else closed or opened the metadata at {kv_where} meanwhile",
                operation="store.adopt",
                subject=kv_where,
                hint="End the `graviton meta copy` that runs, then try again.",
            )
        tx.delete(STORE, READ_ONLY_KEY)
        tx.put(STORE, MARKER_KEY, marker.encode())

    await kv.change_gate(open_again)
