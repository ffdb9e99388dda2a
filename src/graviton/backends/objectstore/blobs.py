"""`S3BlobStore`: whole blobs as objects of one bucket, without blocks and without a database.

A blob is an object under its key, a small record beside it, which makes it visible, and digests of its pieces, by which
every read is verified before a byte leaves. Names and contents: docs/formats/object-layout.md; what holds when one
process writes and what does not when several do: docs/decisions/0030-whole-blobs-in-a-bucket.md.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final, NamedTuple

from graviton.backends.objectstore._blob_reader import PIECE_BYTES, ReadParts, S3BlobReader, digests_size
from graviton.backends.objectstore._blob_records import BlobNames, BlobPlace, BlobRecord, BlobRecords
from graviton.backends.objectstore._blob_room import PartRoom
from graviton.backends.objectstore._blob_upload import HashedParts
from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._transfers import copy_object, part_plan, put_parts
from graviton.backends.objectstore._turns import Turns
from graviton.backends.objectstore.config import S3Config
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.budget import ByteBudget
from graviton.core.clock import Clock, SystemClock
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.locators import Locator
from graviton.core.names import check_name
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import GravitonError, NotFound, RangeNotSatisfiable, Unavailable
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


class _Temporary:
    """The object that has the bytes of a blob whose key is not known yet."""

    def __init__(self, api: S3Api, names: BlobNames) -> None:
        self._api = api
        self.key = names.temporary(secrets.token_hex(16))
        self._may_be_there = False

    def begin(self) -> None:
        """It may be there from now on, and is to be removed."""
        self._may_be_there = True

    async def remove(self) -> None:
        """Idempotent; cancelling does not cut it short. Whatever became of the put is told by its own result."""
        if self._may_be_there:
            self._may_be_there = False
            await finish_anyway(self._remove())

    async def _remove(self) -> None:
        try:
            async with self._api.cleaning() as api:
                await api.delete(self.key, "a temporary object")
        except GravitonError:
            pass  # a lifecycle rule removes what lies below `<prefix>.tmp/`


class _Staged(NamedTuple):
    """Bytes that were read to their end: in memory if one part holds them, else in a temporary object."""

    memory: memoryview
    temporary: _Temporary | None

    async def remove(self) -> None:
        """Remove the temporary object."""
        if self.temporary is not None:
            await self.temporary.remove()


class S3BlobStore(BlobStore):
    """Whole blobs. One process may write a place at a time, any number may read it: what holds blobs together is a
    record that is read, changed and written back. Several writers need the block index (`CasBlobStore`).

    A delete whose reply was lost may arrive up to 15 minutes later, and hits the blob if the same bytes were put again
    meanwhile. Nothing tells the put: decisions/0030, which says when exactly, and what to do.
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
    ) -> None:
        """`prefix` is in place of that of `config`, which is for blocks. Raises ConfigError; nothing is sent yet."""
        self.config = config
        self.names = BlobNames(prefix)
        self.api = S3Api.of(config, metrics, clock)
        self._hash = hash
        self._budget = budget or ByteBudget()
        self._clock = clock or SystemClock()
        self._pool = WorkerPool(_THREADS, "blobs")
        self._turns = Turns.of(config.endpoint, config.region, config.bucket, prefix)
        self._records = BlobRecords(self.api, self.names)

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        self.api.requests.check_open()
        asked = wanted(plan, CasDefaults(self._hash))
        started = self._clock.monotonic()
        temporary = _Temporary(self.api, self.names)
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

    async def _stage(self, parts: HashedParts, policy: StorePolicy | None, temporary: _Temporary) -> _Staged:
        """Read a source to its end, and close it."""
        part_bytes = self.config.part_bytes if policy is None else policy.min_part_size
        plan = part_plan(self.api, part_bytes, parts.size, parts.expected)
        first = await parts.next(plan.part_bytes)
        if len(first) < plan.part_bytes:
            return _Staged(first, None)
        await put_parts(self.api, temporary.key, "a blob on its way", first, parts, plan, temporary.begin)
        return _Staged(memoryview(b""), temporary)

    async def _commit(self, asked: Wanted, parts: HashedParts, staged: _Staged, started: float) -> BlobWriteResult:
        """Make a blob visible, or merge what is new into the record of the one that is there."""
        plan, key = asked.plan, parts.key()
        check_claims(plan.attributes, key)
        blocks = -(-key.size // MAX_BLOCK_BYTES)
        attributes = confirmed(plan.attributes, key.size, blocks, self._clock)
        place = self.names.place(key, plan.domain)
        async with self._turns.taken(place.record):
            found = await self._records.get(place, key)
            is_there = found is not None and await self._is_whole(place, key)
            if found is None:
                new = BlobRecord(BlobStat(key, blocks, "", self._clock.now_ns(), attributes), frozenset((plan.holder,)))
                await self._create(place, new, staged, parts.digests())
            else:
                new = found.merged(attributes, plan.holder)
                if not is_there:
                    await self._write(place, key, staged, parts.digests())
                await staged.remove()
                if new != found:
                    await self._records.put(place, new)
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

    async def _create(self, place: BlobPlace, record: BlobRecord, staged: _Staged, digests: bytes) -> None:
        """The record last: it makes the blob visible, so nothing that can fail or be cancelled comes after it. Nothing
        stays of what failed."""
        try:
            await self._write(place, record.stat.key, staged, digests)
            await staged.remove()
            await self._records.put(place, record)
        except BaseException:
            await finish_anyway(self._give_up(place, record.stat.key))
            raise

    async def _give_up(self, place: BlobPlace, key: BlobKey) -> None:
        try:
            async with self.api.cleaning() as api:
                await self._remove(api, place, key)
        except GravitonError:
            pass  # told already by the error that brought us here; bytes without a record are no blob

    async def _write(self, place: BlobPlace, key: BlobKey, staged: _Staged, digests: bytes) -> None:
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
                await self._records.put(place, found._replace(holders=left))
            else:
                await finish_anyway(self._remove(self.api, place, key))
        return True

    async def _remove_rest(self, place: BlobPlace, key: BlobKey) -> None:
        """Remove what a delete or put that ended half-way has left without a record; the bytes go last, and tell. No
        delete is sent where nothing is: it could arrive late, and hit something."""
        if await self.api.head(place.bytes, key.text) is not None:
            await finish_anyway(self._remove_bytes(self.api, place, key))

    async def _remove(self, api: S3Api, place: BlobPlace, key: BlobKey) -> None:
        """The record first: what is left without one is no blob, and is written over by the next put."""
        await api.delete(place.record, key.text)
        await self._remove_bytes(api, place, key)

    @staticmethod
    async def _remove_bytes(api: S3Api, place: BlobPlace, key: BlobKey) -> None:
        await api.delete(place.digests, key.text)
        await api.delete(place.bytes, key.text)

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
