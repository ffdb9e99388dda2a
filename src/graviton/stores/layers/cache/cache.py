"""`BlockCache`: one folder of cached blocks, shared by the stores of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from graviton.concurrency.executors import WorkerPool
from graviton.constraints.budget import ByteBudget, Lease
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlockKey
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.errors import GravitonError, IntegrityError, Unavailable
from graviton.ports.metrics import MetricsRegistry
from graviton.stores.layers.cache.folder import CacheFolder
from graviton.stores.layers.cache.keeper import Keeper, OpenIndex
from graviton.stores.layers.cache.looks import PATIENCE_SECONDS, Looks
from graviton.stores.layers.cache.metrics import CacheMetrics

__all__ = ["BlockCache"]

WAITING_BYTES = MAX_BLOCK_BYTES
"""What may wait to be written, at most: one of the largest blocks. A disk that takes 1 MiB in a millisecond never gets
there; on one that is slower than the network, blocks above this are not cached."""

WAITING_SHARE = 8
"""And the part of the budget, its divisor. Puts may use three quarters of it, so whatever waits, maybe for a disk that
hangs, five eighths remain for any of them: the largest block, and what it is cut from, even of the smallest budget."""

_READERS = 2
"""Threads that read entries: one hashes while the other waits for the disk. Measured on two cores with 1, 2, 4 and 8
threads, 8 blocks of 1 MiB asked for at once: from the page cache 5.2, 3.4, 2.4 and 4.0 GB/s (threads wait for each
other to get fresh memory), from the disk 0.9, 1.2, 1.1 and 1.4."""

CLOSE_SECONDS = 10.0
"""How long the end waits for what is to be written: a disk that does not take 16 MiB in that time hangs. What it takes
later is whole, or is found and tidied up at the next start."""


class BlockCache:
    """Reads entries and takes new ones; never fails whoever asks. Touches nothing until it is first used.

    Usable from several threads and event loops, not in a child made by fork (Unavailable). One `aclose` per user.
    """

    def __init__(
        self,
        folder: CacheFolder,
        open_index: OpenIndex,
        limit_bytes: int,
        *,
        budget: ByteBudget | None = None,
        metrics: MetricsRegistry | None = None,
        clock: Clock | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`budget`, by default one of its own, is drawn on for what waits to be written. `open_index` is called on the
        keeper's thread. No reader waits for the folder longer than `patience_seconds`."""
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._metrics = CacheMetrics(metrics)
        clock = clock or SystemClock()
        self._keeper = Keeper(folder, open_index, limit_bytes, self._metrics, clock)
        self._looks = Looks(_READERS, clock, patience_seconds)
        self._writer = WorkerPool(1, "cache-keeper")
        self._budget = budget or ByteBudget()
        self._waiting = ByteBudget(min(WAITING_BYTES, self._budget.total // WAITING_SHARE))
        self._unwritten: dict[BlockKey, bytes] = {}
        self._lock = threading.Lock()
        self._users = 1
        self._is_used = False

    def join(self) -> bool:
        """One more user, who closes it too; False if it is closed already."""
        with self._lock:
            if self._users == 0:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        """One user less, who has not used it. There is another one."""
        with self._lock:
            self._users -= 1

    async def read(self, key: BlockKey) -> bytes | None:
        """The verified bytes of an entry, or None if there is none or the disk hangs. Raises Unavailable after the end,
        and after a fork."""
        if not self._is_used:
            self._is_used = True
            self._post(self._keeper.keeps)
        self._looks.check_usable()
        data = self._unwritten.get(key)
        if data is not None:
            return data
        if self._looks.is_paused:
            return None
        try:
            return await self._looks.run(lambda: self._read(key))
        except TimeoutError:
            self._metrics.failed("read", "timeout")
        except Unavailable as error:  # no thread to be had
            self._metrics.failed("read", error.code)
        return None

    def _read(self, key: BlockKey) -> bytes | None:
        try:
            data = self._folder.read(key)
        except IntegrityError:
            self._metrics.damaged()
            self._post(lambda: self._keeper.drop(key))
            return None
        except GravitonError as error:
            self._metrics.failed("read", error.code)
            return None
        if data is not None:
            self._keeper.policy.hit(key.to_bytes())
        return data

    def offer(self, key: BlockKey, data: bytes) -> None:
        """Take a block that was fetched, if there is time for it. Never waits and never raises."""
        if not self._keeper.wants or key in self._unwritten:
            return
        if len(data) > self._waiting.total:
            self._metrics.filled("large")
            return
        leases = self._room(len(data))
        if leases is None:
            self._metrics.filled("busy")
            return
        self._unwritten[key] = data
        if not self._post(lambda: self._store(key, data, leases)):
            self._forget(key, leases)

    def _room(self, size: int) -> tuple[Lease, Lease] | None:
        """Memory for a block that waits to be written, if there is."""
        if self._looks.is_paused or (ours := self._waiting.try_lease(size)) is None:
            return None
        theirs = self._budget.try_lease(size, self._budget.for_prefetch)
        if theirs is None:
            ours.release()
            return None
        return ours, theirs

    def _store(self, key: BlockKey, data: bytes, leases: tuple[Lease, Lease]) -> None:
        try:
            self._keeper.store(key, data)
        finally:
            self._forget(key, leases)

    def _forget(self, key: BlockKey, leases: tuple[Lease, Lease]) -> None:
        self._unwritten.pop(key, None)
        for lease in leases:
            lease.release()

    def _post(self, work: Callable[[], object]) -> bool:
        try:
            self._writer.post(partial(_job, work))
        except Unavailable as error:  # closed, or no thread to be had
            self._metrics.failed("write", error.code)
            return False
        return True

    async def settled(self) -> None:
        """Wait until everything that was offered so far is written, or not: for tests and measurements."""
        await self._writer.run(lambda flag: None)

    async def aclose(self) -> None:
        """One user less; the last one waits for what is to be written and ends the threads, unless the disk hangs."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return
        self._keeper.is_closing = True
        try:
            await self._looks.close()
        finally:
            if self._is_used:
                self._post(self._keeper.close)
            await self._writer.close(CLOSE_SECONDS)


def _job(work: Callable[[], object]) -> None:
    """On the keeper's thread: a mistake of ours is shown as that of a thread is, and does not end the thread."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - reported, and nobody waits for it
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
