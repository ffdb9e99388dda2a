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

from collections.abc import AsyncIterable, AsyncIterator, Sequence

from graviton.core.buffers import Buffer
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Unsupported
from graviton.services.uploads.values import Checksum, Swept, UploadId, UploadStatus, UploadWishes

__all__ = ["Uploads"]


class Uploads:
    """See the module docstring for the laws. Made by `assembly.uploads.open_uploads(store)`; used by the tasks of one
    event loop."""

    async def create(self, wishes: UploadWishes) -> UploadStatus:
        """A new upload. Raises InvalidInput for wishes that cannot be, Unsupported, StorageFull, Unavailable."""
        raise _not_yet()

    async def status(self, id: UploadId) -> UploadStatus:
        """The upload as it is. Looking changes nothing and stops nobody. Raises NotFound."""
        raise _not_yet()

    async def append(
        self, id: UploadId, offset: int, source: AsyncIterable[Buffer], *, checksum: Checksum | None = None
    ) -> UploadStatus:
        """Take what `source` gives from `offset` on. It may end early, or raise (`Interrupted`): what came is kept.
        With a `checksum` it is all or nothing: DigestMismatch, and nothing is kept.

        If that was the last byte, finishing begins in the background; `finish` waits for it. Where bytes that came out
        of order lie ahead, it takes what is missing before them and raises Conflict if the source goes on. Raises
        NotFound, Conflict, DigestMismatch, LimitExceeded beyond the declared length (what fits is kept),
        StorageFull, Unavailable, IntegrityError.
        """
        raise _not_yet()

    async def put_part(
        self, id: UploadId, span: Span, source: AsyncIterable[Buffer], *, digest: Checksum | None = None
    ) -> UploadStatus:
        """Take the bytes of `span`, in any order with others. Bytes that are there already are compared: equal ones are
        kept once, others raise Conflict. Nothing is kept of a source that ends before the span does, or goes on after
        it (InvalidInput); but a part without digest that begins at the offset is as an `append`. Raises as `append`,
        and LimitExceeded when too many parts wait."""
        raise _not_yet()

    async def declare_length(self, id: UploadId, length: int) -> UploadStatus:
        """Say how many bytes there will be. Once said it stays: the same again changes nothing, another one raises
        Conflict, and so does one that is less than what is there."""
        raise _not_yet()

    async def missing(self, id: UploadId) -> RangeSet:
        """What has not come. Without a declared length the last gap ends at the largest size there is."""
        raise _not_yet()

    async def finish(self, id: UploadId, wait_seconds: float) -> UploadStatus:
        """Make the blob of an upload whose every byte is there, or wait for whoever does, up to `wait_seconds`; then
        the state is still FINISHING and the work goes on. DONE has the key, FAILED the error. Of a partial upload it is
        its status. Raises NotFound, Conflict while bytes, or the length, are missing."""
        raise _not_yet()

    async def concatenate(self, ids: Sequence[UploadId], wishes: UploadWishes) -> UploadStatus:
        """A new upload made of complete partial ones, in this order, each as often as it is named; finishing begins in
        the background. `wishes` has no length, or the sum. Raises InvalidInput, NotFound, Conflict if one is not
        complete."""
        raise _not_yet()

    async def terminate(self, id: UploadId) -> bool:
        """Remove an upload with everything it has; whether it was there. The blob of one that is done stays."""
        raise _not_yet()

    def list(self, after: UploadId | None = None) -> AsyncIterator[UploadStatus]:
        """All uploads in the order of their ids, after the id `after`."""
        raise _not_yet()

    async def sweep(self) -> Swept:
        """Remove what has expired and what nobody owns, and go on with finishing that was left. Safe at any time, also
        by several servers."""
        raise _not_yet()

    def start_sweeping(self, every_seconds: float = 60.0) -> None:
        """Sweep now and then in the background, until `aclose`. Idempotent."""
        raise _not_yet()

    async def aclose(self) -> None:
        """Let writers store what they have, stop finishing where it is, and end every task of this object; another
        process goes on. Idempotent. Calls that are going on raise Unavailable unless they come to their end."""
        raise _not_yet()


def _not_yet() -> Unsupported:
    return Unsupported("resumable uploads are not there yet", operation="upload")
