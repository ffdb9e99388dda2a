"""`Uploads`: blobs whose bytes come in pieces, over many requests, through any of several servers. docs/uploads.md.

Laws:
- An offset, and every range, that was told is durable. `append` at another offset than the current one raises Conflict
  and changes nothing; the message and `status` tell the right one.
- The newest writer wins: an append that comes while another one runs makes that store what it has and end. It raises
  Conflict then, if it has not brought all its bytes.
- A call that is cancelled stores what came before it raises CancelledError, as if the client had gone.
- A failed call leaves the upload as it was, or with more of the bytes; never with others.
- An unknown id, and one that has gone, raises NotFound, an id that is none InvalidInput.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

from graviton.concurrency.finishing import until_done
from graviton.core.buffers import Buffer, as_bytes
from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import RangeSet, Span
from graviton.errors import GravitonError, Retry, Unavailable
from graviton.ports.metrics import MetricKeys
from graviton.services.uploads.background import Background, log_failure, measured
from graviton.services.uploads.counting import DEFAULT_MAX_OPEN
from graviton.services.uploads.creating import Creating
from graviton.services.uploads.finishing import Finishing
from graviton.services.uploads.hash_state import HashStates
from graviton.services.uploads.kit import Kit, Pace
from graviton.services.uploads.looking import Looking
from graviton.services.uploads.receiving import Receiving
from graviton.services.uploads.records import Overtaken
from graviton.services.uploads.sources import Feed
from graviton.services.uploads.sweeping import STALE_SECONDS, Sweeping
from graviton.services.uploads.turn import StoppedError
from graviton.services.uploads.turns import Turns
from graviton.services.uploads.values import (
    DEFAULT_LIFETIME_SECONDS,
    Checksum,
    ListedUploads,
    Swept,
    UploadId,
    UploadStatus,
    UploadWishes,
    gaps,
    parse_upload_id,
)
from graviton.services.uploads.waiting import Waiting

__all__ = ["Uploads"]

_T = TypeVar("_T")

_CLOSING_SECONDS = 30.0
"""How long writers may take to store what they have when the service is closed: as long as a server that is stopped
gives its requests. Then they are cancelled, and what was not written down is lost to the client, who was not told."""


class Uploads:
    """See the module docstring for the laws. Made by `assembly.uploads.open_uploads(store)`; used by the tasks of one
    event loop."""

    def __init__(
        self,
        kit: Kit,
        *,
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
        stale_seconds: float = STALE_SECONDS,
        closing_seconds: float = _CLOSING_SECONDS,
        max_open: int = DEFAULT_MAX_OPEN,
    ) -> None:
        """`stale_seconds` without a sign of life of a writer make others go on with finishing. At most `max_open`
        uploads of the store may be open, whoever made them."""
        self._kit = kit
        self._states = HashStates()
        self._turns = Turns(kit)
        self._finishing = Finishing(kit, self._turns, self._states)
        self._background = Background(kit, self._turns, self._states, self._finishing)
        self._receiving = Receiving(kit, self._turns, self._states, self._finishing)
        self._sweeping = Sweeping(kit, self._turns, self._states, stale_seconds)
        self._creating = Creating(kit, lifetime_seconds, max_open)
        self._looking = Looking(kit)
        self._waiting = Waiting(kit, self._background, self._sweeping, self._looking, self._check_open)
        self._closing_seconds = closing_seconds
        self._calls: dict[asyncio.Task[Any], Feed] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._is_closed = False

    async def create(self, wishes: UploadWishes) -> UploadStatus:
        """A new upload. Raises InvalidInput for wishes that cannot be, Unsupported, StorageFull, TooManyRequests
        while too many are open, Unavailable."""
        self._check_open()
        return await self._looked_at(await self._creating.create(wishes))

    async def status(self, id: UploadId) -> UploadStatus:
        """The upload as it is. Looking changes nothing and stops nobody. Raises NotFound."""
        self._check_open()
        return await self._looking.status(parse_upload_id(id))

    async def append(
        self, id: UploadId, offset: int, source: AsyncIterable[Buffer], *, checksum: Checksum | None = None
    ) -> UploadStatus:
        """Take what `source` gives from `offset` on. It may end early, or raise (`Interrupted`): what came is kept.
        With a `checksum` nobody looks at a byte before all of them have come: DigestMismatch, and nothing is kept.

        If that was the last byte, finishing begins in the background; `finish` waits for it. Where bytes that came out
        of order lie ahead, it takes what is missing before them and raises Conflict if the source goes on. Raises
        NotFound, Conflict, DigestMismatch, LimitExceeded for a piece that goes beyond the declared length (what came
        before it is kept), StorageFull, Unavailable, IntegrityError.
        """
        if checksum is not None:
            checksum.check()
        feed = Feed(self._paced(source), offset)
        return await self._take(id, feed, self._receiving.append(parse_upload_id(id), offset, feed, checksum))

    async def put_part(
        self, id: UploadId, span: Span, source: AsyncIterable[Buffer], *, digest: Checksum | None = None
    ) -> UploadStatus:
        """Take the bytes of `span`, in any order with others. Bytes that are there already are compared: equal ones are
        kept once, others raise Conflict. A source that ends before the span does, or goes on after it, is InvalidInput,
        and nothing of it is kept; but of a part without digest that begins at the offset what came is, as by `append`.
        Raises as `append`, and LimitExceeded when too many parts wait."""
        if digest is not None:
            digest.check()
        feed = Feed(self._paced(source), span.start)
        return await self._take(id, feed, self._receiving.put_part(parse_upload_id(id), span, feed, digest))

    async def declare_length(self, id: UploadId, length: int) -> UploadStatus:
        """Say how many bytes there will be. Once said it stays: the same again changes nothing, another one raises
        Conflict, and so does one that is less than what is there."""
        self._check_open()
        await self._creating.declare_length(parse_upload_id(id), length)
        return await self._looked_at(id)

    async def missing(self, id: UploadId) -> RangeSet:
        """What has not come. Without a declared length the last gap ends at the largest size there is."""
        self._check_open()
        row, ranges = await self._looking.ranges(parse_upload_id(id))
        return gaps(ranges, row.length)

    async def finish(self, id: UploadId, wait_seconds: float) -> UploadStatus:
        """Make the blob of an upload whose every byte is there, or wait for whoever does, up to `wait_seconds`; then
        the state is still FINISHING and the work goes on. DONE has the key, FAILED the error. Of a partial upload it is
        its status. Raises NotFound, Conflict while bytes, or the length, are missing, and what went wrong for now."""
        self._check_open()
        return await self._waiting.finish(parse_upload_id(id), wait_seconds)

    async def concatenate(
        self, ids: Sequence[UploadId], wishes: UploadWishes, *, max_bytes: int = MAX_SIZE
    ) -> UploadStatus:
        """A new upload made of complete partial ones, in this order, each as often as it is named; finishing begins in
        the background. `wishes` has no length, or the sum. Raises InvalidInput, NotFound, Conflict if one is not
        complete, LimitExceeded if they have more than `max_bytes` together, StorageFull, TooManyRequests."""
        self._check_open()
        parsed = [parse_upload_id(id) for id in ids]
        return await self._looked_at(await self._creating.concatenate(parsed, wishes, max_bytes))

    async def terminate(self, id: UploadId) -> bool:
        """Remove an upload with everything it has; whether it was there. The blob of one that is done stays."""
        self._check_open()
        return await self._sweeping.terminate(parse_upload_id(id))

    async def list(self, after: UploadId | None = None) -> AsyncIterator[UploadStatus]:
        """All uploads in the order of their ids, after the id `after`. Where rows are damaged it raises IntegrityError
        after everything else was yielded."""
        self._check_open()
        async for status in self._looking.list(after):
            yield status

    async def list_page(self, after: UploadId | None, limit: int) -> ListedUploads:
        """The same, some at a time, and those whose rows are damaged by their ids."""
        self._check_open()
        return await self._looking.page(after, limit)

    async def sweep(self) -> Swept:
        """Remove what has expired and what nobody owns, and go on with finishing that was left. Safe at any time, also
        by several servers."""
        self._check_open()
        return await self._sweeping.sweep(self._background.begin)

    def start_sweeping(self, every_seconds: float = 60.0) -> None:
        """Sweep now and then in the background, until `aclose`. Idempotent."""
        self._check_open()
        if self._sweeper is None:
            self._sweeper = asyncio.ensure_future(self._sweep_forever(every_seconds))

    async def _sweep_forever(self, every_seconds: float) -> None:
        while True:
            try:
                await measured(self._kit, "upload.sweep", self.sweep)
            except Exception as error:  # noqa: BLE001 - the next one may have more luck, and nobody else would sweep
                log_failure("uploads that expired cannot be removed now", error)
            await asyncio.sleep(every_seconds)

    async def aclose(self) -> None:
        """Let writers store what they have, stop finishing where it is, and end every task of this object; another
        process goes on. Idempotent. Calls that are going on raise Unavailable unless they come to their end."""
        self._is_closed = True
        self._turns.close()
        for feed in self._calls.values():
            feed.stop()
        tasks: set[asyncio.Task[Any]] = {*self._calls, *self._background.close()}
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
            tasks.add(sweeper)
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=self._closing_seconds)
            for task in left:
                task.cancel()
            for task in left:
                await until_done(task)
        await self._kit.parts.aclose()

    async def _take(self, id: UploadId, feed: Feed, work: Coroutine[Any, Any, None]) -> UploadStatus:
        """Take bytes in a task of its own: whoever is cancelled ends the feed, and what came is stored."""
        try:
            self._check_open()
        except Unavailable:
            work.close()
            raise
        name = "upload.append"
        task = asyncio.ensure_future(measured(self._kit, name, lambda: work))
        self._calls[task] = feed
        begin = feed.position
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Unavailable(_CLOSED, operation="upload", retry=Retry.PERMANENT) from None
            feed.stop()
            await until_done(task)
            raise
        except StoppedError:
            raise self._stopped(id) from None
        except Overtaken:
            await self._kit.load(id)  # by nobody: it has gone
            raise
        finally:
            self._calls.pop(task, None)
            self._kit.metrics.counter(MetricKeys.UPLOAD_BYTES, feed.position - begin)
        status = await self._looked_at(id)
        feed.raise_error()
        if feed.is_stopped:
            raise self._stopped(id)
        return status

    def _paced(self, source: AsyncIterable[Buffer]) -> AsyncIterable[Buffer]:
        pace = self._kit.pace
        return source if pace is None else _paced(source, pace)

    async def _looked_at(self, id: UploadId) -> UploadStatus:
        """The status of an upload that has just changed, after whatever is due was begun."""
        row, ranges = await self._looking.told(id)
        self._background.look_at(id, row)
        return self._looking.status_of(id, row, ranges)

    def _stopped(self, id: UploadId) -> GravitonError:
        if self._is_closed:
            return Unavailable(_CLOSED, operation="upload", retry=Retry.PERMANENT)
        return Overtaken(
            f"another request goes on with upload {id}",
            operation="upload",
            subject=id,
            hint="Ask for its offset, and go on there.",
        )

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(_CLOSED, operation="upload", retry=Retry.PERMANENT)


_CLOSED = "uploads are closed here; another server, or this one when it is started again, goes on with them"


async def _paced(source: AsyncIterable[Buffer], pace: Pace) -> AsyncGenerator[Buffer, None]:
    async for piece in source:
        await pace(len(as_bytes(piece)))
        yield piece
