"""`S3BlobStore`: whole blobs as objects of one bucket, without blocks and without a database.

A blob is an object under its key, a small record beside it, which makes it visible, and digests of its pieces, by which
every read is verified before a byte leaves. Names and contents: docs/formats/object-layout.md; what holds when one
process writes and what does not when several do: docs/decisions/0030-whole-blobs-in-a-bucket.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, Final

from graviton.backends.objectstore._blob_notes import LATE_SECONDS, BlobNotes
from graviton.backends.objectstore._blob_reader import PIECE_BYTES, ReadParts, S3BlobReader, digests_size
from graviton.backends.objectstore._blob_records import BlobNames, BlobPlace, BlobRecord, BlobRecords
from graviton.backends.objectstore._blob_room import PartRoom
from graviton.backends.objectstore._blob_upload import HashedParts, Staged, Temporary
from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._transfers import copy_object, part_plan, put_parts
from graviton.backends.objectstore._turns import Turns
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway, side_by_side
from graviton.constraints.budget import ByteBudget
from graviton.core.clock import Clock, SystemClock
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.locators import Locator
from graviton.core.names import check_name
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import Conflict, GravitonError, NotFound, RangeNotSatisfiable, Unavailable
from graviton.metadata.key_prefix import blob_key_prefix
from graviton.ports.blobs import BlobReader, BlobSource, BlobStat, BlobStore, BlobWriteResult, IngestStats, check_limit
from graviton.ports.capabilities import Capabilities
from graviton.ports.metrics import MetricsRegistry
from graviton.stores.fillers import open_filler
from graviton.stores.results import CasDefaults, Wanted, check_claims, confirmed, wanted

__all__ = ["DEFAULT_BLOB_PREFIX", "S3BlobStore"]

DEFAULT_BLOB_PREFIX: Final = "cas/blobs"
"""Beside the blocks, whose prefix is `cas/blocks`."""

_THREADS: Final = 2
"""For hashing and for sources that cannot wait for others."""


class S3BlobStore(BlobStore):
    """Whole blobs. One process may write a place at a time, any number may read it: what holds blobs together is a
    record that is read, changed and written back. Several writers need the block index (`CasBlobStore`).

    A request whose reply was lost may still arrive. Until servers refuse it, `late_seconds`, changes of that one blob
    raise Unavailable, which is temporary and says for how long; also in the next process. What is read is not
    concerned. docs/decisions/0030 has the cases.
    """

    capabilities = Capabilities(persistent=True, durable=True)

    def __init__(
        self,
        config: S3Config,
        *,
        prefix: str = DEFAULT_BLOB_PREFIX,
        hash: HashAlgo = DEFAULT_HASH,
        budget: ByteBudget | None = None,
        metrics: MetricsRegistry | None = None,
        clock: Clock | None = None,
        late_seconds: float = LATE_SECONDS,
    ) -> None:
        """`prefix` is in place of that of `config`, which is for blocks. `late_seconds`: how
        late a request may arrive; Garage takes signatures of a day, so say 25 hours there. Raises ConfigError; nothing
        is sent yet."""
        self.config = config
        self.names = BlobNames(prefix)
        self.api = S3Api.of(config, metrics, clock)
        self._hash = hash
        self._budget = budget or ByteBudget()
        self._clock = clock or SystemClock()
        self._pool = WorkerPool(_THREADS, "blobs")
        place = (config.endpoint, config.region, config.bucket, prefix)
        self._turns = Turns.of(*place)
        self._records = BlobRecords(self.api, self.names)
        self._notes = BlobNotes(self.api, place, self._clock, late_seconds)

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        self.api.requests.check_open()
        asked = wanted(plan, CasDefaults(self._hash))
        started = self._clock.monotonic()
        temporary = Temporary(self.api, self.names)
        room = PartRoom(self._budget)
        try:
            parts = await self._open(source, asked.hash, room)
            try:
                staged = await self._stage(parts, asked.plan.policy, temporary)
            finally:
                await parts.aclose()
            return await self._commit(asked, parts, staged, started)
        finally:
            room.release()
            await temporary.remove()

    async def _open(self, source: BlobSource, algo: HashAlgo, room: PartRoom) -> HashedParts:
        if isinstance(source, bytes):
            return HashedParts(memoryview(source), algo, self._pool, room)
        return HashedParts(await open_filler(source, self._pool), algo, self._pool, room)

    async def _stage(self, parts: HashedParts, policy: StorePolicy | None, temporary: Temporary) -> Staged:
        """Read a source to its end, and close it."""
        part_bytes = self.config.part_bytes if policy is None else policy.min_part_size
        plan = part_plan(self.api, part_bytes, parts.size, parts.expected)
        first = await parts.next(plan.part_bytes)
        if len(first) < plan.part_bytes:
            return Staged(first, None)
        await put_parts(self.api, temporary.key, "a blob on its way", first, parts, plan, temporary.begin)
        return Staged(memoryview(b""), temporary)

    async def _commit(self, asked: Wanted, parts: HashedParts, staged: Staged, started: float) -> BlobWriteResult:
        """Make a blob visible, or merge what is new into the record of the one that is there."""
        plan, key = asked.plan, parts.key()
        check_claims(plan.attributes, key)
        blocks = -(-key.size // MAX_BLOCK_BYTES)
        attributes = confirmed(plan.attributes, key.size, blocks, self._clock)
        place = self.names.place(key, plan.domain)
        async with self._turns.taken(place.record):
            looks: list[Coroutine[Any, Any, Any]] = [self._records.get(place, key), self._notes.check(place, key)]
            found: BlobRecord | None = (await side_by_side(looks))[0]
            is_there = found is not None and await self._is_whole(place, key)
            if found is None:
                new = BlobRecord(BlobStat(key, blocks, "", self._clock.now_ns(), attributes), frozenset((plan.holder,)))
            else:
                new = found.merged(attributes, plan.holder)
            if new != found:
                self._notes.check_creates(place, key)
            if found is None:
                await self._create(place, new, staged, parts.digests())
            else:
                if not is_there:
                    await self._write(place, key, staged, parts.digests())
                await staged.remove()
                if new != found:
                    await finish_anyway(self._replace(place, new))
        fresh = 0 if is_there else blocks
        stats = IngestStats(
            key.size,
            blocks,
            fresh,
            key.size if fresh else 0,
            0 if found is None else fresh,
            self._clock.monotonic() - started,
        )
        locator = plan.locator_hint or Locator("s3", self.config.bucket, place.bytes)
        return BlobWriteResult(key, locator, new.stat.attributes, stats, "", found is None, blocks)

    async def _create(self, place: BlobPlace, record: BlobRecord, staged: Staged, digests: bytes) -> None:
        """The record last: it makes the blob visible, so nothing that can fail or be cancelled comes after it. Nothing
        stays of what failed, as far as a note of it can be left."""
        tried = Tried()
        try:
            await self._write(place, record.stat.key, staged, digests)
            await staged.remove()
            is_made = await self._records.create(place, record, tried)
        except BaseException:
            await finish_anyway(self._give_up(place, record.stat.key, tried))
            raise
        finally:
            if tried.is_open:
                self._notes.add_create(place)
        if not is_made:  # so the bytes are not ours to remove
            raise Conflict(
                f"blob {record.stat.key.text} was put by somebody else meanwhile",
                operation="blobs.put",
                subject=record.stat.key.text,
                hint="One process may write a place at a time: see who does. Then put it again.",
            )

    async def _give_up(self, place: BlobPlace, key: BlobKey, tried: Tried) -> None:
        try:
            async with self.api.cleaning() as api, self._notes.noted(api, place, key, removes=True) as removed:
                removed.is_open = tried.is_open
                await self._remove_all(api, place, key, removed)
        except GravitonError:
            pass  # told already by the error that brought us here; bytes without a record are no blob

    async def _replace(self, place: BlobPlace, record: BlobRecord) -> None:
        async with self._notes.noted(self.api, place, record.stat.key, removes=False) as tried:
            await self._records.replace(place, record, tried)

    async def _write(self, place: BlobPlace, key: BlobKey, staged: Staged, digests: bytes) -> None:
        if staged.temporary is not None:
            head = await self.api.head(staged.temporary.key, key.text)
            if head is None or head.size != key.size:
                raise Unavailable(f"the temporary object of {key.text} is not there any more", operation="blobs.put")
            await copy_object(self.api, staged.temporary.key, head, place.bytes, key.text)
        else:
            await self.api.put(place.bytes, key.text, staged.memory)
        if digests:
            await self.api.put(place.digests, key.text, memoryview(digests))

    async def _is_whole(self, place: BlobPlace, key: BlobKey) -> bool:
        """Whether the bytes and the digests are there, as far as their number tells."""
        sizes = {place.bytes: key.size}
        if key.size > PIECE_BYTES:
            sizes[place.digests] = digests_size(key)
        for name, size in sizes.items():
            head = await self.api.head(name, key.text)
            if head is None or head.size != size:
                return False
        return True

    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        """Costs whole pieces of 4 MiB, because only whole ones can be verified."""
        place = self.names.place(key, domain)
        record = await self._records.get(place, key)
        if record is None:
            raise NotFound(f"there is no blob {key.text}", operation="blobs.get", subject=key.text)
        asked = Span(0, key.size) if span is None else span
        if asked.end > key.size:
            raise RangeNotSatisfiable(
                f"{asked} is not within the {key.size} bytes of the blob", operation="blobs.get", subject=key.text
            )
        return S3BlobReader(ReadParts(self.api, self._pool, self._budget, place), record, asked)

    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        found = await self._records.get(self.names.place(key, domain), key)
        return None if found is None else found.stat

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        check_name(holder, "holder")
        place = self.names.place(key, domain)
        async with self._turns.taken(place.record):
            found = await self._records.get(place, key)
            if found is None:
                await self._remove_rest(place, key)
                return False
            if holder not in found.holders:
                return False
            left = found.holders - {holder}
            if left:
                await self._notes.check(place, key)
                self._notes.check_creates(place, key)
                await finish_anyway(self._replace(place, found._replace(holders=left)))
            else:
                await self._remove(place, key)
        return True

    async def _remove_rest(self, place: BlobPlace, key: BlobKey) -> None:
        """Remove what a delete or put that ended half-way has left without a record; the bytes go last, and tell."""
        if await self.api.head(place.bytes, key.text) is not None:
            await self._remove(place, key)

    async def _remove(self, place: BlobPlace, key: BlobKey) -> None:
        is_late = await self._notes.check(place, key, to_remove=True)
        self._notes.check_creates(place, key)

        async def remove() -> None:
            async with self._notes.noted(self.api, place, key, removes=True) as tried:
                tried.is_open = is_late
                await self._remove_all(self.api, place, key, tried)

        await finish_anyway(remove())

    @staticmethod
    async def _remove_all(api: S3Api, place: BlobPlace, key: BlobKey, tried: Tried) -> None:
        """The record first: what is left without one is no blob, and is written over by the next put."""
        await api.delete(place.record, key.text, tried)
        if key.size > PIECE_BYTES:
            await api.delete(place.digests, key.text, tried)
        await api.delete(place.bytes, key.text, tried)

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        self.api.requests.check_open()
        check_limit(limit)
        given = 0
        if limit == 0:
            return
        async with aclosing(self._records.stats(blob_key_prefix(prefix).text, after, check_name(domain))) as stats:
            async for stat in stats:
                yield stat
                given += 1
                if given == limit:
                    return

    async def aclose(self) -> None:
        await self.api.aclose()
        await self._pool.close()
