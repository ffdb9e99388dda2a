"""The end of an upload: what waits is cut, the key computed, claims checked, and one commit makes the blob.

Every step can be done again by whoever comes after a crash: the key is in the row before the commit, so that a session
found committed says which blob it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from graviton.concurrency.executors import in_thread
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestPage
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import Conflict, DigestMismatch, GravitonError, NotFound, StorageFull
from graviton.metadata.upload_rows import UploadRow, UploadState
from graviton.ports.blobs import IngestStats
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.manifests import MAX_COMMIT_PAGES, BlobCommit, BlobRecord, CommitResult
from graviton.ports.metrics import MetricKeys
from graviton.services.uploads import counting, part_records, records
from graviton.services.uploads.cutting import Cutting, claims_of
from graviton.services.uploads.hash_state import Hashes, HashStates
from graviton.services.uploads.kit import Kit, range_locator
from graviton.services.uploads.parts import BytesLostError
from graviton.services.uploads.records import Overtaken
from graviton.services.uploads.spill import mismatch
from graviton.services.uploads.turn import Turn
from graviton.services.uploads.turns import Turns
from graviton.services.uploads.values import UploadId, hasher
from graviton.stores.committing import commit_all
from graviton.stores.results import check_claims, confirmed, result_of

__all__ = ["Finishing", "end_sessions"]

_FATAL = (BytesLostError, DigestMismatch)
"""What no other try can mend."""


class Finishing:
    """Makes blobs of complete uploads."""

    def __init__(self, kit: Kit, turns: Turns, states: HashStates) -> None:
        self._kit, self._turns, self._states = kit, turns, states

    async def run(self, id: UploadId) -> None:
        """Finish an upload, from where the last one who tried has come; nothing if it is done or has failed. Raises
        NotFound, StoppedError, Overtaken, and what a put does: then somebody may try again."""
        row = await self._kit.load(id)
        if row.state in (UploadState.DONE, UploadState.FAILED):
            return
        if row.key is not None and await self._turns.committed(row.session):
            await self._say_done(id, row.session, row, await self._look(row))
            return
        async with self._turns.turn(id, _finishing) as turn:
            if turn.committed is not None:
                row = turn.row._replace(session=turn.committed)
                await self._say_done(id, turn.committed, turn.row, await self._look(row))
                turn.has_left = True
                return
            try:
                if turn.lost is not None:
                    raise turn.lost
                await self._finish(turn)
            except _FATAL as error:
                await self.fail(turn, error)
            except StorageFull as error:
                if error is not turn.refused:
                    raise  # of a disk, say, where there may be room again
                await self.fail(turn, error)  # else its bytes stay without room, and it is tried for ever
            except Overtaken:
                raise
            except Conflict as error:
                raise records.ended(id) from error

    async def _finish(self, turn: Turn) -> None:
        length = turn.row.length
        assert length is not None, "a complete upload has a length"
        if turn.row.cut_to < length or not length:
            turn.refused = await self._kit.reservations.keep(turn.id, turn.row, length)
            await Cutting(self._kit, self._states, turn).run(keeps_turn=True)
            turn.check()
        key = turn.row.key  # known and checked, if somebody has come so far before
        if key is None:
            state = self._states.take(turn.id, turn.row.cut_to)
            hashes = None if state is None else state.hashes(length)
            if hashes is None:
                hashes = await self._read_back(turn, length)
            key = BlobKey(Digest(HashAlgo.parse(turn.row.wishes.hash), hashes.raw), length)
            self._check(turn.row, key, hashes)
            turn.row = await self._kit.note(_change(turn, self._kit.now_ns(), key=key))
        turn.check()
        await self._commit(turn, key)

    async def _read_back(self, turn: Turn, length: int) -> Hashes:
        """The hashes of bytes that were cut by several servers, or with breaks: one pass over the blocks."""
        algo = HashAlgo.parse(turn.row.wishes.hash).hasher()
        claimed = {claim.algo: hasher(claim.algo) for claim in claims_of(turn.row)}
        updates = [algo.update, *(one.update for one in claimed.values())]
        async with aclosing(self._kit.held.read(turn.id, Span(0, length))) as pieces:
            async for piece in pieces:
                turn.check()
                for update in updates:
                    await in_thread(self._kit.put.pool, update, piece)
        return Hashes(algo.digest().raw, {which: one.digest() for which, one in claimed.items()})

    def _check(self, row: UploadRow, key: BlobKey, hashes: Hashes) -> None:
        """Raises DigestMismatch unless the bytes are those that were announced."""
        check_claims(row.wishes.attributes, key)
        if row.wishes.expected not in (None, key):
            raise DigestMismatch(
                f"the bytes are those of blob {key}, not of {row.wishes.expected}", operation="upload", subject=key.text
            )
        for claim in claims_of(row):
            if hashes.claimed[claim.algo] != claim.raw:
                raise mismatch(claim)

    async def _commit(self, turn: Turn, key: BlobKey) -> None:
        kit, row = self._kit, turn.row
        try:
            await kit.reservations.promise(turn.id, row, key)
        except StorageFull as error:
            turn.refused = error
            raise
        last = await self._add_pages(turn)
        attributes = confirmed(row.wishes.attributes, key.size, row.counts[0], kit.put.clock)
        commit = BlobCommit(row.session, key, last, [], attributes, row.wishes.chunker, row.wishes.holder)
        turn.is_clean = False  # whether it was done is told by the session, not by what follows
        done: CommitResult | None
        try:
            [done] = await commit_all(kit.put.manifests, kit.put.block_index, [commit], row.wishes.domain)
        except Conflict:
            if not await self._turns.committed(row.session):
                raise
            done = await self._look(row._replace(key=key))
        await self._say_done(turn.id, row.session, row._replace(key=key), done)
        turn.is_clean = turn.has_left = True
        if done is not None:
            plan = BlobWritePlan(BinaryAttributes.EMPTY, domain=row.wishes.domain, holder=row.wishes.holder)
            seconds = max(0, kit.now_ns() - row.created_at_ns) / 1e9
            kit.reporter.report([result_of(done, plan, IngestStats(key.size, *row.counts, seconds=seconds))])

    async def _add_pages(self, turn: Turn) -> Sequence[ManifestPage]:
        """Hand the pages of the manifest to the session; the last ones, which come with the commit."""
        kit, at = self._kit, 0
        pages: list[ManifestPage] = []
        while at < turn.row.cut_to:
            turn.check()
            page = await kit.kv.read(partial(part_records.load_page, id=turn.id, offset=at))
            if page is None:
                raise BytesLostError(f"upload {turn.id} has no page for byte {at}", operation="upload", subject=turn.id)
            pages.append(page)
            at = page.end
            if len(pages) > MAX_COMMIT_PAGES:
                turn.is_clean = False  # these stay with the session, and another try begins with none
                await kit.put.manifests.add_pages(turn.row.session, pages[:-1])
                pages = pages[-1:]
        return pages

    async def _look(self, row: UploadRow) -> CommitResult | None:
        """The blob that a session was found to have committed; None if it was deleted since."""
        assert row.key is not None
        try:
            record: BlobRecord = await self._kit.put.manifests.get(row.key, row.wishes.domain)
        except NotFound:
            return None
        return CommitResult(record, created=record.owner == row.session)

    async def _say_done(self, id: UploadId, session: int, row: UploadRow, done: CommitResult | None) -> None:
        """`session` has made the blob, whoever has the token: the upload needs nothing any more but its row, which
        answers whoever asks again."""
        assert row.key is not None
        await self._kit.reservations.settle(id, row.key)
        created = done is not None and done.created
        settle = partial(_settle, id=id, session=session, key=row.key, created=created, now_ns=self._kit.now_ns())
        others = await self._kit.decide(settle)
        self._kit.metrics.counter(MetricKeys.UPLOADS, event="done")
        self._states.drop(id)
        await end_sessions(self._kit, others)
        with suppress(GravitonError):  # what is left goes with the row
            await self._kit.parts.delete_all(id)

    async def fail(self, turn: Turn, error: GravitonError) -> None:
        """Say that the upload can never be finished, and give up what it holds. Raises Overtaken, NotFound."""
        kit = self._kit
        why = (error.code, error.message, error.hint)
        await kit.decide(partial(_fail, id=turn.id, token=turn.token, now_ns=kit.now_ns(), error=why))
        kit.metrics.counter(MetricKeys.UPLOADS, event="failed")
        turn.has_left = True
        self._states.drop(turn.id)
        row = turn.row
        await end_sessions(kit, [one for one in (row.session, row.heir, *row.old_sessions) if one])
        await kit.give_room_back(turn.id, row)
        with suppress(GravitonError):
            await kit.parts.delete_all(turn.id)
        await kit.tracker.clear(range_locator(turn.id))


async def end_sessions(kit: Kit, sessions: Sequence[int]) -> None:
    """End sessions that nothing needs. One that has committed stays: it is the blob's."""
    for session in sessions:
        with suppress(Conflict):
            await kit.put.block_index.end(session)


def _finishing(_: ReadTransaction, row: UploadRow) -> dict[str, Any]:
    """Whether an upload can be finished. Raises Conflict."""
    if row.state not in (UploadState.RECEIVING, UploadState.FINISHING) or not row.is_complete or row.wishes.is_partial:
        raise Conflict(f"the upload is {row.state.value} and cannot be finished", operation="upload")
    return {"state": UploadState.FINISHING, "reach": row.offset}


def _change(turn: Turn, now_ns: int, **fields: Any) -> Any:
    return partial(records.change, id=turn.id, writer=turn.token, now_ns=now_ns, **fields)


def _settle(tx: Transaction, id: UploadId, session: int, key: BlobKey, created: bool, now_ns: int) -> list[int]:
    """Say so; the sessions of others who were at it."""
    row = records.load(tx, id)
    if row.state is UploadState.DONE:
        return []
    counting.closed(tx, row)
    records.clear_bytes(tx, id)
    others = [one for one in (row.session, row.heir, *row.old_sessions) if one and one != session]
    row = records.alive(row, now_ns)._replace(
        state=UploadState.DONE,
        token="",
        reach=0,
        session=session,
        heir=0,
        old_sessions=(),
        cut_to=key.size,
        offset=key.size,
        parts=0,
        key=key,
        created=created,
    )
    records.save(tx, id, row)
    return others


def _fail(tx: Transaction, id: UploadId, token: str, now_ns: int, error: tuple[str, str, str]) -> None:
    row = records.change(tx, id, token, now_ns)
    counting.closed(tx, row)
    records.clear_bytes(tx, id)
    records.save(
        tx,
        id,
        row._replace(state=UploadState.FAILED, error=error, token="", reach=0, cut_to=0, offset=0, parts=0, key=None),
    )
