"""Room for uploads in a quota, if there is one: reserved when they begin, settled by the blob.

The quota itself is in `constraints/`; what is asked of it here is the least. An upload keeps its reservation under its
own id, so that whoever goes on with it finds it. One that was not heard of for too long is gone, and is made anew.
"""

from __future__ import annotations

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
        self, holder: str, size: int, *, domain: str, lifetime_seconds: float, id: str, blobs: int
    ) -> UploadReservation:
        """Room for `size` bytes and so many blobs, kept under `id`. Raises StorageFull."""
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
        """Reserve room for a new upload. Raises StorageFull."""
        if self._quota is not None:
            await self._begin(self._quota, id, row, size)

    async def _begin(self, quota: UploadQuota, id: UploadId, row: UploadRow, size: int) -> UploadReservation:
        wishes = row.wishes
        seconds = _LIFETIMES * row.lifetime_ns / 1e9
        blobs = 0 if wishes.is_partial else 1
        return await quota.reserve(
            wishes.holder, size, domain=wishes.domain, lifetime_seconds=seconds, id=id, blobs=blobs
        )

    async def keep(self, id: UploadId, row: UploadRow, total: int) -> None:
        """Have room for `total` bytes of an upload, or for all that it was declared to have. Raises StorageFull."""
        if self._quota is None:
            return
        size = total if row.length is None else row.length
        try:
            await (await self._quota.resume(id)).grow(size)
        except NotFound:
            await self._begin(self._quota, id, row, size)

    async def promise(self, id: UploadId, row: UploadRow, key: BlobKey) -> None:
        """Before the commit. Raises StorageFull."""
        if self._quota is None:
            return
        try:
            await (await self._quota.resume(id)).promise(key)
        except NotFound:
            await (await self._begin(self._quota, id, row, key.size)).promise(key)

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

    def __init__(self, reservations: Reservations, id: UploadId, row: UploadRow, waiting: int) -> None:
        """`waiting` bytes lie ahead already."""
        self._reservations, self._id, self._row, self._waiting = reservations, id, row, waiting
        self._admitted = 0

    async def __call__(self, end: int) -> None:
        """Have room up to `end` before these bytes are taken. Raises StorageFull."""
        if end <= self._admitted:
            return
        try:
            await self._reservations.keep(self._id, self._row, end + self._waiting + _STEP_BYTES)
            self._admitted = end + _STEP_BYTES
        except StorageFull:
            await self._reservations.keep(self._id, self._row, end + self._waiting)
            self._admitted = end
