"""Bodies that nobody may look at before their checksum was compared."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias

from graviton.concurrency.executors import WorkerPool, in_thread
from graviton.core.buffers import Buffer
from graviton.errors import DigestMismatch, StorageFull
from graviton.services.spool import open_spool
from graviton.services.uploads.values import Checksum, hasher

__all__ = ["FileSpill", "OpenSpill", "Spill", "checked", "mismatch"]

_READ_BYTES = 1024 * 1024


class Spill(Protocol):
    """Bytes put aside: written, then read from the beginning, once each."""

    async def write(self, data: Buffer) -> None:
        """Append; the buffer may be used again afterwards. Raises StorageFull."""
        ...

    def __aiter__(self) -> AsyncIterator[Buffer]: ...

    async def aclose(self) -> None:
        """Give back what it takes. Idempotent."""
        ...


OpenSpill: TypeAlias = Callable[[], Awaitable[Spill]]


class FileSpill:
    """A spill in a file without a name."""

    def __init__(self, folder: str | None, pool: WorkerPool) -> None:
        """In `folder`, if that can be. Raises OSError."""
        self._file = open_spool(folder)
        self._pool = pool

    async def write(self, data: Buffer) -> None:
        """See `Spill`."""
        await in_thread(self._pool, self._write, data)

    def _write(self, data: Buffer) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            text = f"a request cannot be put aside until it is verified: {error.strerror}"
            raise StorageFull(text, operation="upload") from error

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        await in_thread(self._pool, self._file.seek, 0)
        while data := await in_thread(self._pool, self._file.read, _READ_BYTES):
            yield data

    async def aclose(self) -> None:
        """See `Spill`."""
        self._file.close()


async def checked(source: AsyncIterable[Buffer], checksum: Checksum, spill: Spill) -> None:
    """Put all of `source` aside. Raises DigestMismatch unless it has that digest, and what `source` raises."""
    check = hasher(checksum.algo)
    async for piece in source:
        check.update(piece)
        await spill.write(piece)
    if check.digest() != checksum.raw:
        raise mismatch(checksum)


def mismatch(checksum: Checksum, what: str = "bytes") -> DigestMismatch:
    """The error for `what` that has another digest."""
    return DigestMismatch(
        f"the {what} that arrived do not have the {checksum.algo.value} digest announced",
        operation="upload",
        hint="Send them again.",
    )
