"""Bodies that nobody may look at before their checksum was compared."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Protocol, TypeAlias

from graviton.core.buffers import Buffer
from graviton.errors import DigestMismatch, LimitExceeded
from graviton.services.uploads.values import Checksum, hasher

__all__ = ["OpenSpill", "Spill", "checked", "mismatch"]

_READ_BYTES = 1024 * 1024


class Spill(Protocol):
    """Bytes put aside: written, then read from the beginning, once each. `constraints.spill.SpillBuffer` is one."""

    async def write(self, data: Buffer) -> None:
        """Append; the buffer may be used again afterwards. Raises StorageFull, LimitExceeded for what never fits."""
        ...

    def __aiter__(self) -> AsyncIterator[Buffer]: ...

    async def aclose(self) -> None:
        """Give back what it takes. Idempotent."""
        ...


OpenSpill: TypeAlias = Callable[[], Spill]


async def checked(source: AsyncIterable[Buffer], checksum: Checksum, spill: Spill) -> None:
    """Put all of `source` aside. Raises DigestMismatch unless it has that digest, LimitExceeded if it is more than may
    be put aside, and what `source` raises."""
    check = hasher(checksum.algo)
    async for piece in source:
        check.update(piece)
        try:
            await spill.write(piece)
        except LimitExceeded as error:  # which is about our disk, and this is told to clients
            raise LimitExceeded(
                f"bytes that come with a checksum wait until it was compared, and here {error.message}",
                operation="upload",
                hint="Send them in smaller pieces, each with its checksum. The server's limit is GRAVITON_SPILL_BYTES.",
            ) from error
    if check.digest() != checksum.raw:
        raise mismatch(checksum)


def mismatch(checksum: Checksum, what: str = "bytes") -> DigestMismatch:
    """The error for `what` that has another digest."""
    return DigestMismatch(
        f"the {what} that arrived do not have the {checksum.algo.value} digest announced",
        operation="upload",
        hint="Send them again.",
    )
