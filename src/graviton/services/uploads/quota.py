"""What uploads ask of a quota, if there is one: a reservation that grows with what came, and is settled by the blob.

The quota itself is `constraints/quota.py`; an upload keeps its reservation under its own id, so that whoever goes on
with it finds it.
"""

from __future__ import annotations

from typing import Protocol

from graviton.core.keys import BlobKey

__all__ = ["UploadQuota", "UploadReservation"]


class UploadReservation(Protocol):
    """Room that one upload may use."""

    async def grow(self, total: int) -> None:
        """Room for `total` bytes in all. Raises StorageFull."""
        ...

    async def promise(self, key: BlobKey) -> None:
        """The blob `key` is about to be committed."""
        ...

    async def settle(self, key: BlobKey) -> None:
        """It was: what it takes is used now, and the reservation ends."""
        ...

    async def release(self) -> None:
        """Give it all back."""
        ...


class UploadQuota(Protocol):
    """Hands out reservations."""

    async def reserve(self, holder: str, size: int, *, id: str) -> UploadReservation:
        """Room for `size` bytes, kept under `id`. Raises StorageFull."""
        ...

    async def resume(self, id: str) -> UploadReservation | None:
        """The reservation kept under `id`, or None."""
        ...
