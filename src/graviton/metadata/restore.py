"""`graviton meta restore FILE`: a backup into an empty metadata store of any kind.

1. The whole file is read, its digest and the prefix of its blocks are compared before anything is written.
2. One transaction looks that the store is empty and sets the mark `restoring`; everybody refuses a store with it.
3. Records go in, in bounded batches, each of which looks that the mark is still this run's.
4. The last transaction, durable, writes the store's marker and takes the mark away.

Interrupted anywhere, the mark stays, and the next restore clears the store and starts over. Six things differ from
the backup, because the world went on without it:
- open sessions are *ended*: their writers are gone, or talk to the old metadata, and must not commit here;
- the marker gets a new metadata id, so that only one of the old and the new metadata can manage the blocks;
- blocks the block store no longer has (they were collected after the backup) become *damaged*, so that the next put
  of their bytes writes them again instead of relying on them;
- events are left out: nobody who followed the metadata that was backed up may go on in this one;
- totals are counted anew, so that a wrong sum is not carried along; and so are the indexes of copies, which not every
  kind of metadata keeps as rows.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlockKey
from graviton.errors import ConfigError, Conflict, IntegrityError
from graviton.metadata.backup import translate_os_error
from graviton.metadata.backup_format import BackupHeader, Record, read_backup
from graviton.metadata.block_prefix import PREFIX_KEY, BlockPlace, check_backup
from graviton.metadata.copy_marks import HalfCopy
from graviton.metadata.marker import MarkerStore, StoreMarker, new_id
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY, BlocksEmpty, check_blocks_of
from graviton.metadata.read_only import READ_ONLY_KEY
from graviton.metadata.refill import clear, count_totals
from graviton.metadata.replica_indexes import REPLICA_INDEXES, rebuild_replica_indexes
from graviton.metadata.rows import (
    BLOCKS,
    OWN_NAMESPACES,
    OWNERS,
    SCHEMA_NAMES,
    SCHEMAS,
    STORE,
    TOTALS,
    BlockRow,
    OwnerRow,
    block_key_of,
)
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import Durability, KeyValueStore, Transaction

__all__ = ["RestoreResult", "restore_metadata"]

_BATCH_RECORDS = 1000
_BATCH_BYTES = 4 << 20
"""Records and bytes per transaction; one record may go beyond by its own size."""

_BUFFER_BYTES = 1 << 20

_LEFT_OUT = frozenset((TOTALS, *REPLICA_INDEXES)) | OWN_NAMESPACES
"""Namespaces whose rows follow from others, or are no contents: an older program's backup has them too."""

BlocksExist = Callable[[Sequence[BlockKey]], Awaitable[list[bool]]]
"""`BlockStore.exists_many` of the store the metadata is for."""

Progress = Callable[[int, int], None]
"""Called with the records restored so far and their number."""


class RestoreResult(NamedTuple):
    """A finished restore."""

    marker: StoreMarker | None
    """The marker now in the metadata; the block side still has the old metadata id until `graviton store adopt`."""
    records: int
    ended_sessions: int
    missing_blocks: int
    """Blocks marked damaged because the block store does not have them."""


class _Summary(NamedTuple):
    records: int
    marker: StoreMarker | None
    prefix: bytes | None
    """Under which the blocks lay; None if nobody had told the metadata yet."""


async def restore_metadata(
    kv: KeyValueStore,
    path: str | os.PathLike[str],
    *,
    blocks_exist: BlocksExist | None,
    place: BlockPlace | None = None,
    markers: MarkerStore | None = None,
    blocks_empty: BlocksEmpty | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> RestoreResult:
    """Load the backup `path` into `kv`, which is empty, was made and not used, or holds an interrupted restore.

    `blocks_exist` is asked about every stored block; None trusts the backup, which is only right if nothing was
    collected since. `place` is where that looks: under another prefix than the backed-up store's nothing would be
    found; and `markers` says whose blocks they are, which is compared too. Where they have lost their marker a
    backup is loaded only if it is trusted, and `blocks_empty` finds some. Raises IntegrityError naming the byte,
    ConfigError for another prefix or store, a newer format or a store that is not empty (nothing was written),
    NotFound, Conflict if another restore took over, StorageFull, PermissionDenied, Unavailable.
    """
    source = Path(path)
    try:
        with WorkerPool(1, "meta.restore") as pool:
            summary = await _verify(source, pool)
            if place is not None and summary.prefix is not None:
                check_backup(summary.prefix, str(source), place)
            if markers is not None and summary.marker is not None:
                trusted = blocks_empty if blocks_exist is None else None
                await check_blocks_of(summary.marker, str(source), markers, trusted)
            load = _Load(kv, summary, blocks_exist, (clock or SystemClock()).now_ns())
            await load.begin()
            with open(source, "rb", _BUFFER_BYTES) as file:  # noqa: ASYNC230 - opening; the reads are on a thread
                entries = read_backup(file.read)
                while batch := await in_thread(pool, _next_batch, entries):
                    await load.add(batch)
                    if progress is not None:
                        progress(load.records, summary.records)
            return await load.finish()
    except OSError as error:
        raise translate_os_error(error, "read", source) from error


async def _verify(path: Path, pool: WorkerPool) -> _Summary:
    """Read the backup to its end, in steps so that a cancelled restore stops. Raises IntegrityError, ConfigError for a
    store of a newer format."""
    marker, prefix, count = None, None, 0
    with open(path, "rb", _BUFFER_BYTES) as file:  # noqa: ASYNC230 - opening; the reads are on a thread
        entries = read_backup(file.read)
        while batch := await in_thread(pool, _next_batch, entries):
            count += len(batch)
            for record in batch:
                if record.namespace == STORE and record.key == MARKER_KEY:
                    marker = StoreMarker.decode(record.value, f"the store record in {path}")
                elif record.namespace == STORE and record.key == PREFIX_KEY:
                    prefix = record.value
    return _Summary(count, marker, prefix)


def _next_batch(entries: Iterator[BackupHeader | Record]) -> list[Record]:
    batch: list[Record] = []
    size = 0
    for entry in islice(entries, _BATCH_RECORDS):
        if isinstance(entry, Record):
            batch.append(entry)
            size += len(entry.key) + len(entry.value)
            if size >= _BATCH_BYTES:
                break
    return batch


class _Load:
    """The state of one restore into one store."""

    def __init__(self, kv: KeyValueStore, summary: _Summary, blocks_exist: BlocksExist | None, now_ns: int) -> None:
        self._kv = kv
        self._summary = summary
        self._blocks_exist = blocks_exist
        self._now_ns = now_ns
        self._mark = secrets.token_bytes(16)
        self.records = self._ended = self._missing = 0

    async def begin(self) -> None:
        """Set the mark on a store that is empty, or clear what an interrupted restore left under its mark."""
        while True:
            names = await self._kv.namespaces()
            if await self._kv.transact(lambda tx: self._take(tx, names)):  # noqa: B023 - awaited before names changes
                return
            await clear(self._kv, names, self._check_mark)

    def _take(self, tx: Transaction, names: Sequence[str]) -> bool:
        """Set this run's mark; whether the store is empty apart from it. A store that was made and not used holds a
        marker and descriptions of formats, which are no data and give way."""
        found = has_data = False
        mark = tx.get(STORE, RESTORING_KEY)
        restoring = mark is not None
        if mark is not None and HalfCopy.decode(mark) is not None:
            raise ConfigError(
                "the metadata store is half a copy of another one",
                operation="meta.restore",
                hint="Finish `graviton meta copy`, or restore to another place (GRAVITON_META_PATH).",
            )
        for name in names:
            for key, _ in tx.scan(name, limit=2):
                found = found or (name, key) != (STORE, RESTORING_KEY)
                has_data = has_data or name not in (STORE, SCHEMAS, SCHEMA_NAMES)
        if has_data and not restoring:
            raise ConfigError(
                "the metadata store is not empty, and a restore never overwrites",
                operation="meta.restore",
                hint="Move the old metadata away, or restore to another place (GRAVITON_META_PATH).",
            )
        tx.put(STORE, RESTORING_KEY, self._mark)
        return not found

    def _check_mark(self, tx: Transaction) -> None:
        if tx.get(STORE, RESTORING_KEY) != self._mark:
            raise Conflict("another restore into this metadata store took over", operation="meta.restore")

    async def add(self, batch: Sequence[Record]) -> None:
        """Write one batch, changed where it must be."""
        missing = await self._missing_blocks(batch)
        rows = []
        for place, record in enumerate(batch):
            if record.namespace in _LEFT_OUT or (
                record.namespace == STORE and record.key in (MARKER_KEY, RESTORING_KEY, READ_ONLY_KEY)
            ):
                continue
            rows.append(self._ended_if_open(record) if place not in missing else _damage(record))

        def run(tx: Transaction) -> None:
            self._check_mark(tx)
            for name in dict.fromkeys(row.namespace for row in rows):
                tx.put_many(name, [(row.key, row.value) for row in rows if row.namespace == name])

        await self._kv.transact(run, Durability.RELAXED)
        self.records += len(batch)
        self._missing += len(missing)

    async def _missing_blocks(self, batch: Sequence[Record]) -> set[int]:
        """Places in the batch of stored blocks that the block store does not have."""
        if self._blocks_exist is None:
            return set()
        places = [
            place
            for place, record in enumerate(batch)
            if record.namespace == BLOCKS and BlockRow.decode(record.value).state is BlockState.STORED
        ]
        there = await self._blocks_exist([block_key_of(batch[place].key, BLOCKS) for place in places]) if places else []
        return {place for place, exists in zip(places, there, strict=True) if not exists}

    def _ended_if_open(self, record: Record) -> Record:
        if record.namespace != OWNERS:
            return record
        row = OwnerRow.decode(record.value)
        if row.state is not OwnerState.OPEN:
            return record
        self._ended += 1
        return record._replace(value=row.turned(OwnerState.ENDED, self._now_ns).encode())

    async def finish(self) -> RestoreResult:
        """Make the restored store valid, durably."""
        if self.records != self._summary.records:
            raise IntegrityError("the backup file changed while it was restored", operation="meta.restore")
        await count_totals(self._kv, self._check_mark)
        await rebuild_replica_indexes(self._kv, self._check_mark)
        old = self._summary.marker
        marker = None if old is None else old._replace(metadata_id=new_id())

        def run(tx: Transaction) -> None:
            self._check_mark(tx)
            tx.delete(STORE, RESTORING_KEY)
            if marker is not None:
                tx.put(STORE, MARKER_KEY, marker.encode())

        await self._kv.transact(run)
        return RestoreResult(marker, self.records, self._ended, self._missing)


def _damage(record: Record) -> Record:
    row = BlockRow.decode(record.value)
    return record._replace(value=row._replace(state=BlockState.DAMAGED, generation=row.generation + 1).encode())
