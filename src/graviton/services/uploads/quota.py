"""Room for uploads in a quota, if there is one: reserved when they begin, settled by the blob.

The quota itself is in `constraints/`; what is asked of it here is the least. An upload keeps its reservation under its
own id, so that whoever goes on with it finds it. One that was not heard of for too long is gone, and is made anew.

An upload for which there is no room goes on without a reservation as long as it may be of a blob that is there, which
needs none: no larger than what is, and without a new block (docs/decisions/0050-quota.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from graviton.core.keys import BlobKey
from graviton.errors import NotFound, StorageFull
from graviton.metadata.upload_rows import UploadRow
from graviton.services.uploads.values import UploadId

__all__ = ["Admission", "Reservations", "UploadQuota", "UploadReservation"]

_LIFETIMES = 2
"""A reservation lives so many lifetimes of its upload after its last sign of life, as the session does."""

_STEP_BYTES = 8 * 1024 * 1024
"""Room is asked for in steps of so much while bytes arrive of which nobody knows how many they will be."""


class UploadReservation(Protocol):
    """Room that one upload may use; every call is a sign of life."""

    async def grow(self, total_bytes: int) -> None:
        """Have room for `total_bytes` in all; never less than before. Raises StorageFull, NotFound."""
        ...

    async def promise(self, *keys: BlobKey) -> None:
        """Say which blob is about to be committed. Raises StorageFull, NotFound."""
        ...

    async def settle(self, key: BlobKey | None = None) -> None:
        """It was committed: what it takes is used now, and the reservation ends. Idempotent."""
        ...

    async def release(self) -> None:
        """Give it all back. Idempotent."""
        ...


class UploadQuota(Protocol):
    """Hands out reservations."""

    async def reserve(
        self,
        holder: str,
        size: int,
        *,
        domain: str,
        lifetime_seconds: float,
        id: str,
        blobs: int,
        keys: Sequence[BlobKey] = (),
        instead_of: Sequence[str] = (),
    ) -> UploadReservation:
        """Room for `size` bytes and so many blobs, kept under `id`; `keys` are promised. The reservations `instead_of`
        hand theirs on, and end. Raises StorageFull, and nothing changes."""
        ...

    async def largest_possible(self, holder: str, domain: str, claimed: BlobKey | None) -> int:
        """How many bytes a blob has at most that fits now or may be there, if it is the one that it is `claimed` to
        be; -1 for none."""
        ...

    async def resume(self, id: str) -> UploadReservation:
        """The reservation kept under `id`. Raises NotFound."""
        ...

    async def recover(self) -> int:
        """Close the reservations that were not heard of for too long; how many."""
        ...


class Reservations:
    """Those of all uploads; without a quota there is always room."""

    def __init__(self, quota: UploadQuota | None = None) -> None:
        self._quota = quota

    @property
    def are_needed(self) -> bool:
        """Whether there is a quota at all."""
        return self._quota is not None

    async def recover(self) -> None:
        """Give back what nobody uses any more."""
        if self._quota is not None:
            await self._quota.recover()

    async def begin(self, id: UploadId, row: UploadRow, size: int) -> None:
        """Reserve room for a new upload, unless it may need none. Raises StorageFull."""
        if self._quota is not None:
            try:
                await self._begin(self._quota, id, row, size)
            except StorageFull as error:
                await self.check_possible(id, row, size, error)

    async def begin_joined(self, id: UploadId, row: UploadRow, size: int) -> None:
        """Let partial uploads hand their room on to a new upload that is made of them. It has room for its bytes in any
        case, because they are stored; whether the blob may be one more, the promise says. Raises StorageFull, and they
        keep their room."""
        if self._quota is not None:
            try:
                await self._begin(self._quota, id, row, size, instead_of=row.wishes.made_of)
            except StorageFull:
                await self._begin(self._quota, id, row, size, blobs=0, instead_of=row.wishes.made_of)

    async def hand_back(self, id: UploadId, joined: Sequence[tuple[UploadId, UploadRow]]) -> None:
        """Nothing comes of an upload that was made of those, whose bytes stay: they have its room again. Nothing if it
        has none, and so was settled."""
        if self._quota is None:
            return
        try:
            await self._quota.resume(id)
        except NotFound:
            return
        for one, row in joined:
            try:
                await self._begin(self._quota, one, row, row.offset, instead_of=[id, one])
            except StorageFull:
                continue  # somebody has taken the room just now, if there were several of them
        await self.release(id)

    async def _begin(
        self,
        quota: UploadQuota,
        id: UploadId,
        row: UploadRow,
        size: int,
        keys: Sequence[BlobKey] = (),
        blobs: int | None = None,
        instead_of: Sequence[str] = (),
    ) -> None:
        wishes = row.wishes
        seconds = _LIFETIMES * row.lifetime_ns / 1e9
        await quota.reserve(
            wishes.holder,
            size,
            domain=wishes.domain,
            lifetime_seconds=seconds,
            id=id,
            blobs=int(not wishes.is_partial) if blobs is None else blobs,
            keys=keys,
            instead_of=instead_of,
        )

    async def check_possible(self, id: UploadId, row: UploadRow, size: int, refused: StorageFull) -> None:
        """Raise `refused` for an upload that neither fits nor may be there. A piece of a blob is cut in other places
        than the blob at its beginning, so it has blocks that are new."""
        wishes, quota = row.wishes, self._quota
        assert quota is not None, "who refused?"
        if wishes.is_partial or size > await quota.largest_possible(wishes.holder, wishes.domain, wishes.expected):
            raise refused

    async def keep(self, id: UploadId, row: UploadRow, total: int) -> StorageFull | None:
        """Have room for `total` bytes of an upload, or for all that it was declared to have. Where there is none, but
        it may be of what is there, the error to be raised for its first new block. Raises StorageFull."""
        if self._quota is None:
            return None
        size = total if row.length is None else row.length
        try:
            await self._grow(self._quota, id, row, size)
        except StorageFull as error:
            await self.check_possible(id, row, size, error)
            return error
        return None

    async def grow(self, id: UploadId, row: UploadRow, total: int) -> None:
        """Have room for `total` bytes. Raises StorageFull."""
        if self._quota is not None:
            await self._grow(self._quota, id, row, total)

    async def _grow(self, quota: UploadQuota, id: UploadId, row: UploadRow, size: int) -> None:
        try:
            await (await quota.resume(id)).grow(size)
        except NotFound:
            await self._begin(quota, id, row, size)

    async def renew(self, id: UploadId) -> None:
        """A sign of life."""
        if self._quota is not None:
            try:
                await (await self._quota.resume(id)).grow(0)
            except NotFound:
                pass  # it has none, or its time was past: the next bytes ask anew

    async def promise(self, id: UploadId, row: UploadRow, key: BlobKey) -> None:
        """Before the commit. Raises StorageFull."""
        if self._quota is None:
            return
        try:
            await (await self._quota.resume(id)).promise(key)
        except NotFound:
            await self._begin(self._quota, id, row, key.size, [key])

    async def settle(self, id: UploadId, key: BlobKey) -> None:
        """After the commit."""
        if self._quota is not None:
            try:
                await (await self._quota.resume(id)).settle(key)
            except NotFound:
                pass  # its time was past, and whoever found that has entered what was promised

    async def release(self, id: UploadId) -> None:
        """Nothing comes of the upload."""
        if self._quota is not None:
            try:
                await (await self._quota.resume(id)).release()
            except NotFound:
                pass  # given back already


class Admission:
    """Room for bytes that arrive, of which nobody knows how many they will be."""

    def __init__(
        self,
        reservations: Reservations,
        id: UploadId,
        row: UploadRow,
        waiting: int,
        without_room: Callable[[StorageFull], None],
    ) -> None:
        """`waiting` bytes lie ahead already. `without_room` is told when the rest may only be of what is there, and may
        raise."""
        self._reservations, self._id, self._row, self._waiting = reservations, id, row, waiting
        self._without_room = without_room
        self._admitted = 0
        self._refused: StorageFull | None = None

    async def __call__(self, end: int) -> None:
        """Have room up to `end` before these bytes are taken. Raises StorageFull."""
        if end <= self._admitted:
            return
        if self._refused is None:
            try:
                await self._ask(self._reservations.grow, end)
                return
            except StorageFull as error:
                self._refused = error
        await self._ask(partial(self._reservations.check_possible, refused=self._refused), end)
        self._without_room(self._refused)

    async def _ask(self, question: Callable[[UploadId, UploadRow, int], Awaitable[None]], end: int) -> None:
        """For some more at once, if that can be."""
        try:
            await question(self._id, self._row, end + self._waiting + _STEP_BYTES)
            self._admitted = end + _STEP_BYTES
        except StorageFull:
            await question(self._id, self._row, end + self._waiting)
            self._admitted = end
