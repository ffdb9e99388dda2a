"""Parts as objects: `<prefix><upload>/<name>`. What is put here is verified by its digest whenever it is read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple, Protocol

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.concurrency.finishing import side_by_side
from graviton.constraints.budget import ByteBudget
from graviton.core.buffers import Buffer
from graviton.core.hashing import HashAlgo, Hasher
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import GravitonError, IntegrityError, RangeNotSatisfiable
from graviton.metadata.upload_rows import ID_BYTES, PartRow
from graviton.ports.objects import MutableObjectStore
from graviton.services.uploads.values import UploadId

__all__ = ["BytesLostError", "Leftovers", "PartObject", "PartPlace", "PartStore", "missing_part"]

_INLINE_BYTES = 64 * 1024
"""Below this hashing takes less than a thread hop."""

_DELETES = 16
"""Objects removed at the same time."""


class BytesLostError(IntegrityError):
    """Bytes that an upload holds are not there, or are others: it can never be finished."""


class Leftovers(Protocol):
    """What killed puts have left in the folder of an upload and no listing shows."""

    async def owners(self) -> list[str]:
        """Names of all folders there are."""
        ...

    async def remove(self, owner: str) -> None:
        """Remove one with everything in it."""
        ...


class PartPlace(NamedTuple):
    """Where parts lie."""

    objects: MutableObjectStore
    scheme: str
    bucket: str
    prefix: str = ""
    """Of paths; empty, or with a slash at its end. Nothing else lies below it."""
    put_bytes: int = 1024 * 1024
    """Memory that one put of an object of any size may take."""
    is_shared: bool = False
    """Others use the object store too, and it is not closed here."""
    leftovers: Leftovers | None = None


class PartObject(NamedTuple):
    """An object that is durable, and in no row yet."""

    name: bytes
    size: int
    digest: bytes

    def row(self, span: Span, skip: int = 0) -> PartRow:
        """The row that says that it holds `span`."""
        return PartRow(span, self.name, self.size, self.digest, skip)


class PartStore:
    """The objects of all uploads."""

    def __init__(self, place: PartPlace, budget: ByteBudget, pool: WorkerPool) -> None:
        self._place, self._budget, self._pool = place, budget, pool

    async def put(self, id: UploadId, name: bytes, pieces: AsyncIterable[Buffer]) -> PartObject:
        """Put what comes in pieces; waits for the memory that this takes. Raises what `pieces` raises."""
        hasher = HashAlgo.BLAKE3.hasher()
        lease = await self._budget.lease(min(self._place.put_bytes, self._budget.for_puts), self._budget.for_puts)
        try:
            stat = await self._place.objects.put(self._at(id, name), self._hashed(pieces, hasher))
        finally:
            lease.release()
        return PartObject(name, stat.size, hasher.digest().raw)

    async def put_memory(self, id: UploadId, name: bytes, data: memoryview) -> PartObject:
        """Put what is in memory, for which the budget was asked before."""
        digest = await in_thread(self._pool, HashAlgo.BLAKE3.digest, data)
        stat = await self._place.objects.put(self._at(id, name), data)
        return PartObject(name, stat.size, digest.raw)

    async def _hashed(self, pieces: AsyncIterable[Buffer], hasher: Hasher) -> AsyncIterator[Buffer]:
        async for piece in pieces:
            await self._update(hasher, piece)
            yield piece

    async def _update(self, hasher: Hasher, piece: Buffer) -> None:
        if len(piece) <= _INLINE_BYTES:
            hasher.update(piece)
        else:
            await in_thread(self._pool, hasher.update, piece)

    async def read(self, id: UploadId, part: PartRow, span: Span) -> AsyncGenerator[Buffer, None]:
        """The bytes of `span`, which lies in that of the part. All of the object is read: it is wrong as a whole or
        right as a whole, and the last piece comes only when it is right. Raises BytesLostError, NotFound."""
        first = span.start - part.span.start + part.skip
        last = first + span.length
        hasher = HashAlgo.BLAKE3.hasher()
        held_back: Buffer = b""
        at = 0
        try:
            pieces = await self._place.objects.get(self._at(id, part.name), Span(0, part.size))
        except RangeNotSatisfiable as error:
            raise _lost(id, part) from error
        async with aclosing(pieces) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                await self._update(hasher, piece)
                wanted = memoryview(piece)[max(0, first - at) : max(0, last - at)]
                at += len(piece)
                if wanted:
                    if held_back:
                        yield held_back
                    held_back = wanted
        if at != part.size or hasher.digest().raw != part.digest:
            raise _lost(id, part)
        if held_back:
            yield held_back

    async def delete(self, id: UploadId, names: Sequence[bytes]) -> None:
        """Remove objects that no row names any more. What cannot be removed now goes with the upload."""
        await self._delete([self._at(id, name) for name in names], self._delete_if_possible)

    async def _delete_if_possible(self, locator: Locator) -> None:
        with suppress(GravitonError):
            await self._place.objects.delete(locator)

    async def delete_all(self, id: UploadId) -> None:
        """Remove every object of an upload, registered or not."""
        locators = [found.locator async for found in self._place.objects.list(f"{self._place.prefix}{id}/")]
        await self._delete(locators, self._place.objects.delete)

    async def _delete(self, locators: Sequence[Locator], delete: Callable[[Locator], Coroutine[Any, Any, Any]]) -> None:
        """Some at a time: one after the other ten thousand take a bucket minutes."""
        for start in range(0, len(locators), _DELETES):
            await side_by_side(delete(locator) for locator in locators[start : start + _DELETES])

    async def remove_folder(self, id: UploadId) -> None:
        """The same, with whatever killed puts have left: of an upload to which nobody can put any more."""
        if self._place.leftovers is not None:
            await self._place.leftovers.remove(id)  # objects and all
        else:
            await self.delete_all(id)

    async def owners(self) -> AsyncIterator[str]:
        """The first folder below the prefix of everything there is: ids, if nobody put anything else."""
        if self._place.leftovers is not None:
            for owner in await self._place.leftovers.owners():
                yield owner
            return
        last = None
        async for found in self._place.objects.list(self._place.prefix):
            owner = found.locator.path[len(self._place.prefix) :].partition("/")[0]
            if owner != last:
                yield owner
            last = owner

    async def aclose(self) -> None:
        """Close the object store."""
        if not self._place.is_shared:
            await self._place.objects.aclose()

    def _at(self, id: UploadId, name: bytes) -> Locator:
        assert len(name) == ID_BYTES
        return Locator(self._place.scheme, self._place.bucket, f"{self._place.prefix}{id}/{name.hex()}")


def _lost(id: UploadId, part: PartRow) -> BytesLostError:
    return BytesLostError(
        f"the bytes {part.span} that wait for upload {id} are not what was put",
        operation="upload",
        subject=id,
        hint="Look at the disk or bucket where parts lie; start the upload again.",
    )


def missing_part(id: UploadId, part: PartRow) -> BytesLostError:
    """The error for an object that is not there, although its row is."""
    return BytesLostError(
        f"the bytes {part.span} that wait for upload {id} are missing",
        operation="upload",
        subject=id,
        hint="Was the metadata restored, or the folder of uploads removed? Start the upload again.",
    )
