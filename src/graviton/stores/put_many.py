"""Many small blobs at once: one transaction that claims, one batch of blocks, one commit per group.

A group is bounded in blobs and in bytes. Every blob of it is its own owner, exactly as if it had been put alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from graviton.concurrency.executors import in_thread
from graviton.concurrency.finishing import finish_anyway
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking import ChunkerSpec
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import paginate
from graviton.errors import GravitonError, InvalidInput, Unavailable
from graviton.ports.blobs import BlobWriteResult, IngestStats, SmallBlob
from graviton.ports.block_index import OpenedSession
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode
from graviton.ports.manifests import BlobCommit, CommitResult
from graviton.stores.committing import commit_all
from graviton.stores.intake import Parts, session_tag
from graviton.stores.results import Wanted, check_claims, confirmed, result_of, wanted
from graviton.stores.segments import step_bytes

if TYPE_CHECKING:
    from graviton.stores.limits.arrivals import GroupArrival

__all__ = ["MAX_GROUP_BYTES", "MAX_GROUP_ITEMS", "MAX_SMALL_BYTES", "Item", "groups", "put_group"]

MAX_SMALL_BYTES = 256 * 1024
"""Larger blobs gain nothing from sharing an fsync and are put alone."""

MAX_GROUP_ITEMS = 1000
"""Blobs per group: the fsyncs cost less than a tenth of the work by then."""

MAX_GROUP_BYTES = 8 * 1024 * 1024
"""Bytes per group, fewer with a chunker of very small blocks."""


class Item(NamedTuple):
    """One blob of a group."""

    data: bytes
    asked: Wanted

    @property
    def kind(self) -> tuple[str, HashAlgo, ChunkerSpec]:
        """What the blobs of a group have in common."""
        return self.asked.plan.domain, self.asked.hash, self.asked.chunker


class _Cut(NamedTuple):
    """One blob of a group, cut and hashed."""

    item: Item
    key: BlobKey
    blocks: Sequence[BlockKey]


def groups(sources: Iterable[bytes | SmallBlob], asked: Wanted) -> Iterator[list[Item] | Exception]:
    """Lists of blobs to be put together as `asked`; a larger blob is a list of its own. What `sources` raises, or
    InvalidInput for something in it that cannot be put, comes last, after the list of what was good before it."""
    failure: Exception | None = None
    group: list[Item] = []
    size = 0
    most = step_bytes(asked.chunker, MAX_GROUP_BYTES)
    try:
        for source in sources:
            one = _item(source, asked)
            alone = len(one.data) > MAX_SMALL_BYTES
            if group and (alone or len(group) >= MAX_GROUP_ITEMS or size + len(one.data) > most):
                yield group
                group, size = [], 0
            if alone:
                yield [one]
                continue
            group.append(one)
            size += len(one.data)
    except Exception as error:  # noqa: BLE001 - handed on in its turn
        failure = error
    if group:
        yield group
    if failure is not None:
        yield failure


def _item(source: bytes | SmallBlob, asked: Wanted) -> Item:
    data, own = source if isinstance(source, SmallBlob) else (source, BinaryAttributes.EMPTY)
    if not isinstance(data, bytes):
        raise InvalidInput(f"put_many takes bytes, not {type(data).__name__}", operation="put")
    if own.advertised or own.confirmed:
        asked = wanted(asked.plan.replace(attributes=asked.plan.attributes.merge(own)), asked.defaults)
    return Item(data, asked)


async def put_group(
    parts: Parts,
    group: Sequence[Item],
    before: asyncio.Future[Any] | None = None,
    arrival: GroupArrival | None = None,
) -> list[BlobWriteResult]:
    """Put all of `group`, items of one kind, or nothing; results in order. Commits only after `before` succeeded.
    `arrival` has room for them already, and is closed when they are settled."""
    if parts.limits is None:
        return await _put_group(parts, group, before, None)
    async with arrival or parts.limits.group(group[0].asked.plan.domain) as arrival:
        return await _put_group(parts, group, before, arrival)


async def _put_group(
    parts: Parts, group: Sequence[Item], before: asyncio.Future[Any] | None, arrival: GroupArrival | None
) -> list[BlobWriteResult]:
    started = time.perf_counter()
    sessions: list[OpenedSession] = []
    try:
        cuts = await in_thread(parts.pool, _cut_all, parts, group)
        for cut in cuts:
            check_claims(cut.item.asked.plan.attributes, cut.key)
        if arrival is not None:
            if arrival.has_no_room and before is not None:
                await asyncio.shield(before)  # which may have room that it turns out not to need
            await arrival.admit([(cut.item.asked.plan.holder, cut.key) for cut in cuts])
        await finish_anyway(_open(parts, cuts, sessions))
        await _write(parts, cuts, sessions)
        if before is not None:
            await asyncio.shield(before)
        domain, _, _ = group[0].kind
        commits = _commits(parts, cuts, sessions)
        committed = await commit_all(parts.manifests, parts.block_index, commits, domain)
        return _results(cuts, sessions, committed, time.perf_counter() - started)
    except BaseException:
        await finish_anyway(_end_all(parts, sessions))
        raise


async def _open(parts: Parts, cuts: Sequence[_Cut], sessions: list[OpenedSession]) -> None:
    """Start a session per blob. Never abandoned half way: sessions whose numbers nobody knows could not be ended."""
    sessions += await parts.block_index.open([cut.blocks for cut in cuts], cuts[0].item.asked.plan.domain)


def _cut_all(parts: Parts, group: Sequence[Item]) -> list[_Cut]:
    """What is no larger than the smallest block is one block: the whole group is hashed in one call of the kernel."""
    _, algo, spec = group[0].kind
    single = [one.data for one in group if 0 < len(one.data) <= spec.min_bytes]
    digests = iter(parts.kernel.digest_many(single, algo))
    cuts = []
    for item in group:
        size = len(item.data)
        if 0 < size <= spec.min_bytes:
            digest = Digest(algo, next(digests))
            cuts.append(_Cut(item, BlobKey(digest, size), (BlockKey(digest, size),)))
        else:
            cuts.append(_Cut(item, *_cut(parts, item.data, spec, algo)))
    return cuts


def _cut(parts: Parts, data: bytes, spec: ChunkerSpec, algo: HashAlgo) -> tuple[BlobKey, list[BlockKey]]:
    ingest = parts.kernel.ingest(spec, algo)
    lengths, digests = ingest.feed(data, True)
    raw, size = ingest.finish()
    blocks = [BlockKey(Digest(algo, digest), length) for digest, length in zip(digests, lengths, strict=True)]
    return BlobKey(Digest(algo, raw), size), blocks


async def _write(parts: Parts, cuts: Sequence[_Cut], sessions: Sequence[OpenedSession]) -> None:
    """Write what any of the sessions must write, once."""
    wanted: dict[BlockKey, CanonicalBlock] = {}
    for cut, (_, claims) in zip(cuts, sessions, strict=True):
        offset = 0
        for claim in claims:
            if claim.must_write and claim.key not in wanted:
                payload = memoryview(cut.item.data)[offset : offset + claim.key.size]
                wanted[claim.key] = CanonicalBlock(claim.key, payload)
            offset += claim.key.size
    if wanted:
        tag = session_tag(sessions[0].session)
        await parts.blocks.put_blocks(list(wanted.values()), BlockWritePlan(WriteMode.ALWAYS, tag))


def _commits(parts: Parts, cuts: Sequence[_Cut], sessions: Sequence[OpenedSession]) -> list[BlobCommit]:
    commits = []
    for cut, (session, claims) in zip(cuts, sessions, strict=True):
        confirm = [claim.key for claim in claims if claim.must_write]
        asked = cut.item.asked
        attributes = confirmed(asked.plan.attributes, cut.key.size, len(cut.blocks), parts.clock)
        pages = paginate(cut.blocks)
        commits.append(BlobCommit(session, cut.key, pages, confirm, attributes, asked.chunker.text, asked.plan.holder))
    return commits


def _results(
    cuts: Sequence[_Cut],
    sessions: Sequence[OpenedSession],
    committed: Sequence[CommitResult],
    seconds: float,
) -> list[BlobWriteResult]:
    """A block that several blobs of the group had to write counts as fresh for the first."""
    written: set[BlockKey] = set()
    results = []
    for cut, (_, claims), one in zip(cuts, sessions, committed, strict=True):
        fresh = {claim.key: claim for claim in claims if claim.must_write and claim.key not in written}
        written.update(fresh)
        stats = IngestStats(
            cut.key.size,
            len(cut.blocks),
            len(fresh),
            sum(key.size for key in fresh),
            sum(claim.repairs for claim in fresh.values()),
            seconds,
        )
        results.append(result_of(one, cut.item.asked.plan, stats))
    return results


async def _end_all(parts: Parts, sessions: Sequence[OpenedSession]) -> None:
    """End what is still open; what was committed refuses, what cannot be reached expires."""
    for session, _ in sessions:
        try:
            await parts.block_index.end(session)
        except Unavailable:
            return  # each of the others would wait as long; they expire
        except GravitonError:
            continue
