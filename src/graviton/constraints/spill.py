"""Bytes that have to wait somewhere: in memory up to a bound, then in a file that goes with the process.

    spill = Spill(SpillPolicy(memory_bytes, disk_bytes, root), budget)
    async with spill.buffer() as buffer:
        await buffer.write(piece)
        async for piece in buffer: ...

Memory comes from the byte budget and is never waited for: whoever gets none writes to the disk at once, so a buffer
cannot block a stream that it feeds. The disk is bounded too, over all buffers of the process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.constraints.budget import ByteBudget, Lease
from graviton.constraints.spill_folder import SpillFolder
from graviton.core.buffers import Buffer, as_bytes
from graviton.errors import IntegrityError, InvalidInput, LimitExceeded, Retry, StorageFull, Unavailable
from graviton.metadata.local_files import translate_os
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics

__all__ = ["Spill", "SpillBuffer", "SpillPolicy"]

_THREADS: Final = 2
"""Disks do not get faster by more."""

_PIECE_BYTES: Final = 128 * 1024
"""What is read at once. A thread hop costs little beside it, and it is memory that no budget counts."""


class SpillPolicy(NamedTuple):
    """When and where waiting bytes go to disk."""

    memory_bytes: int
    """Of one buffer, at most; the budget may give less."""
    disk_bytes: int
    """Of all buffers of this process together."""
    root: Path
    """A folder, made when it is needed (0700)."""


class Spill:
    """All buffers of one process. Touches nothing until something is spilled. Close it after its buffers."""

    def __init__(self, policy: SpillPolicy, budget: ByteBudget, metrics: MetricsRegistry | None = None) -> None:
        """Raises InvalidInput."""
        if policy.memory_bytes < 0 or policy.disk_bytes < 1:
            raise InvalidInput(f"nothing can be spilled with {policy.memory_bytes} and {policy.disk_bytes} bytes")
        self.policy = policy
        self._budget = budget
        self._disk = ByteBudget(policy.disk_bytes)
        self._folder = SpillFolder(policy.root)
        self._pool = WorkerPool(_THREADS, "spill")
        self._opener = WorkerPool(1, "spill.open")  # the folder is for one thread at a time
        self._metrics = metrics or NoMetrics()
        self._metrics.gauge(MetricKeys.SPILL_BYTES, policy.disk_bytes, kind="limit")
        self._end_metrics = self._metrics.on_snapshot(self._show)

    @property
    def disk_bytes(self) -> int:
        """Bytes on disk now, in all buffers."""
        return self._disk.used

    def buffer(self) -> SpillBuffer:
        """An empty buffer."""
        return SpillBuffer(self, self._budget)

    async def sweep(self) -> int:
        """Remove what processes that have ended left in the root; how many folders that were. The first buffer that
        spills does it too. Raises PermissionDenied, Unavailable."""
        try:
            return await self._opener.run(lambda flag: self._folder.sweep() if os.path.isdir(self._folder.root) else 0)
        except OSError as error:
            raise translate_os(error, self._folder.root, "spill", "look into") from error

    async def aclose(self) -> None:
        """Give back threads, and the folder if there is one. Idempotent."""
        self._end_metrics()
        await self._pool.close()
        await self._opener.close()
        self._folder.close()

    def _room(self, size: int, has: int) -> Lease:
        """Room for `size` bytes more of a buffer that `has` some on disk. Raises LimitExceeded, StorageFull."""
        limit = self.policy.disk_bytes
        if has + size > limit:
            raise LimitExceeded(
                f"{has + size} bytes have to wait on disk, and at most {limit} may",
                operation="spill",
                subject=self._folder.root,
                hint="Raise GRAVITON_SPILL_BYTES, or send less at once.",
            )
        room = self._disk.try_lease(size)
        if room is None:
            raise StorageFull(
                f"{self._disk.used} of the {limit} bytes that may wait on disk are in use, and {size} more do not fit",
                operation="spill",
                subject=self._folder.root,
                hint="Try again later, or raise GRAVITON_SPILL_BYTES.",
                retry=Retry.TEMPORARY,
            )
        return room

    def _show(self) -> None:
        self._metrics.gauge(MetricKeys.SPILL_BYTES, self._disk.used, kind="used")


class SpillBuffer:
    """Bytes that were written, to be read as often as wanted: `async for piece in buffer`, or `read`.

    One task at a time writes; what was written by then can be read meanwhile. Closing it, or forgetting it, gives
    memory and disk back.
    """

    def __init__(self, spill: Spill, budget: ByteBudget) -> None:
        self._spill, self._budget = spill, budget
        self._file = _File()
        self._on_disk = 0
        """Bytes in the file; those behind them are in the tail."""
        self._tail = bytearray()
        self._memory = _Leases()
        self._room = _Leases()
        self._is_closed = False

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._on_disk + len(self._tail)

    @property
    def bytes_on_disk(self) -> int:
        """Those of them that are in the file."""
        return self._on_disk

    async def write(self, data: Buffer) -> None:
        """Append `data`, whole or not at all, also when it is cancelled. Raises LimitExceeded, StorageFull,
        PermissionDenied, Unavailable."""
        self._check()
        view = as_bytes(data)
        if not view:
            return
        if len(self._tail) + len(view) <= self._spill.policy.memory_bytes:
            lease = self._budget.try_lease(len(view), self._budget.for_puts)
            if lease is not None:
                self._tail += view
                self._memory.add(lease)
                return
        await self._to_disk(view)

    async def _to_disk(self, view: memoryview) -> None:
        """What is in memory, and `view` after it."""
        spill, file = self._spill, self._file
        size = len(self._tail) + len(view)
        room = spill._room(size, self._on_disk)
        try:
            if not file.is_open:
                await spill._opener.run(lambda flag: file.open(spill._folder))
            await spill._pool.run(partial(file.write, [memoryview(self._tail), view], self._on_disk))
        except BaseException as error:
            room.release()
            if isinstance(error, OSError):
                raise translate_os(error, spill._folder.root, "spill", "write to") from error
            raise
        self._room.add(room)
        self._on_disk += size
        self._tail = bytearray()
        self._memory.release()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.read()

    async def read(self, start: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `start` on, as far as they were written when the end is reached. Raises Unavailable, and
        IntegrityError if the file lost some."""
        at = start
        while at < self.size:
            self._check()
            if at < self._on_disk:
                piece = await self._read_file(at, min(_PIECE_BYTES, self._on_disk - at))
            else:
                begin = at - self._on_disk
                piece = bytes(self._tail[begin : begin + _PIECE_BYTES])
            at += len(piece)
            yield piece

    async def _read_file(self, at: int, count: int) -> bytes:
        file = self._file  # stays open until this is done, whoever closes the buffer meanwhile
        try:
            piece = await self._spill._pool.run(lambda flag: file.read(at, count))
        except OSError as error:
            raise translate_os(error, self._spill._folder.root, "spill", "read from") from error
        if not piece:
            raise IntegrityError(f"the file of spilled bytes ends before byte {at}", operation="spill")
        return piece

    async def aclose(self) -> None:
        """Give memory and disk back. Idempotent; using the buffer afterwards raises Unavailable."""
        self._is_closed = True
        self._tail = bytearray()
        self._memory.release()
        last, self._file = [self._file], _File()
        try:
            if last[0].is_open:  # the end of a large file takes a disk a while
                await self._spill._pool.run(lambda flag: last.clear(), must_run=True)
        except Unavailable:
            pass  # the spill was closed before, and the file is now
        finally:
            self._room.release()

    def _check(self) -> None:
        if self._is_closed:
            raise Unavailable("this buffer is closed", operation="spill", retry=Retry.PERMANENT)

    async def __aenter__(self) -> SpillBuffer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Leases:
    """One lease that grows."""

    def __init__(self) -> None:
        self._lease: Lease | None = None

    def add(self, lease: Lease) -> None:
        if self._lease is None:
            self._lease = lease
        else:
            self._lease.merge(lease)

    def release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


class _File:
    """A descriptor that is closed when nobody refers to it any more."""

    def __init__(self) -> None:
        self._fd = -1

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def open(self, folder: SpillFolder) -> None:
        self._fd = folder.open_file()

    def write(self, parts: list[memoryview], at: int, flag: CancelFlag) -> None:
        for part in parts:
            rest = part
            while rest:
                flag.check()
                count = os.pwrite(self._fd, rest[:_WRITE_BYTES], at)
                rest, at = rest[count:], at + count

    def read(self, at: int, count: int) -> bytes:
        return os.pread(self._fd, count, at)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


_WRITE_BYTES = 8 * 1024 * 1024
"""Between two looks whether somebody still waits: some milliseconds."""
