"""`ObjectBlockStore`: blocks as objects, `<prefix>/<algo>/<hex>-<size>`; and `S3BlockStore`, which is one on S3.

The names are a stored format: docs/formats/object-layout.md. What could go wrong, and what is done about it:
docs/object-storage.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from graviton.backends.objectstore._driver import Driver
from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._s3_driver import S3Driver
from graviton.backends.objectstore._turns import Turns
from graviton.backends.objectstore.clients import data_store
from graviton.backends.objectstore.config import S3Config
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import side_by_side
from graviton.core.buffers import Buffer
from graviton.core.clock import Clock, SystemClock
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import CasLocatorStrategy
from graviton.errors import IntegrityError, InvalidInput, NotFound
from graviton.ports.blocks import (
    DEFAULT_WRITE_PLAN,
    BlockBatchResult,
    BlockStatus,
    BlockStore,
    BlockWritePlan,
    CanonicalBlock,
    StoredBlock,
    WriteMode,
    check_batch,
)
from graviton.ports.capabilities import Capabilities
from graviton.ports.events import Event, EventKind, EventSink
from graviton.ports.metrics import MetricsRegistry

__all__ = ["ObjectBlockStore", "S3BlockStore"]

_HASH_THREADS = 2
_INLINE_BYTES = 64 * 1024
"""A smaller block is hashed at once: that takes 15 us, a thread 50."""

_HINT = "Put the same bytes again to repair it; `graviton verify` shows which blobs are concerned."


class ObjectBlockStore(BlockStore):
    """Blocks in one bucket. Making one touches nothing. Any number of processes, threads and event loops may use the
    same place; a process made by fork may not, if its parent used one before."""

    def __init__(
        self,
        driver: Driver,
        layout: CasLocatorStrategy,
        capabilities: Capabilities,
        events: EventSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`events` are told of every block of a put: stored or duplicate, and where it lies."""
        self.capabilities = capabilities
        self.driver = driver
        self.layout = layout
        self._events = events
        self._clock = clock or SystemClock()
        self._pool = WorkerPool(_HASH_THREADS, "hashing")
        self._honours_conditions: bool | None = None
        """Whether the server refuses a put that says "only if absent"; None: not known yet."""
        self._probing = Turns()

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        self.driver.requests.check_open()
        check_batch(blocks, plan)
        for key, payload in blocks:
            if isinstance(payload, memoryview) and not payload.c_contiguous:
                raise InvalidInput(f"the payload of block {key.text} has gaps in memory", subject=key.text)
        distinct = {block.key: block for block in blocks}
        put = self._put if plan.mode is WriteMode.ALWAYS else self._put_if_absent
        written = await side_by_side([put(block) for block in distinct.values()])
        fresh = {key for key, is_fresh in zip(distinct, written, strict=True) if is_fresh}
        stored = []
        for block in blocks:
            status = BlockStatus.FRESH if block.key in fresh else BlockStatus.DUPLICATE
            fresh.discard(block.key)  # repeats are duplicates
            stored.append(StoredBlock(block.key, status))
        self._tell(stored)
        return BlockBatchResult.of(stored, plan)

    def _tell(self, stored: Sequence[StoredBlock]) -> None:
        if self._events is None:
            return
        now_ns = self._clock.now_ns()
        for key, status in stored:
            kind = EventKind.BLOCK_STORED if status is BlockStatus.FRESH else EventKind.BLOCK_DUPLICATE
            self._events.emit(Event(kind, now_ns, key.text, {"locator": self.layout.locate(key).text}))

    async def _put(self, block: CanonicalBlock) -> bool:
        await self.driver.put(self.path(block.key), _plain(block.payload), block.key.text)
        return True

    async def _put_if_absent(self, block: CanonicalBlock) -> bool:
        if self._honours_conditions is None:
            if await self._exists(block.key):
                return False  # nothing may be tried on a block that is there: it would be written over
            async with self._probing.taken("conditions"):
                if self._honours_conditions is None:
                    return await self._probe(block)
        if self._honours_conditions:
            return await self._put_new(block)
        if await self._exists(block.key):
            return False
        return await self._put(block)

    async def _probe(self, block: CanonicalBlock) -> bool:
        """Put a block that was not there; then find out whether the server takes it once more under the condition."""
        await self._put(block)
        path, payload = self.path(block.key), _plain(block.payload)
        self._honours_conditions = await self.driver.refuses_again(path, payload, block.key.text)
        return True

    async def _exists(self, key: BlockKey) -> bool:
        return await self.driver.exists(self.path(key), key.text)

    async def _put_new(self, block: CanonicalBlock) -> bool:
        return await self.driver.put_new(self.path(block.key), _plain(block.payload), block.key.text)

    async def get(self, key: BlockKey) -> bytes:
        return await self.read(self.path(key), key, f"there is no block {key.text}")

    async def read(self, path: str, key: BlockKey, missing: str) -> bytes:
        """The verified bytes of `key` under `path`. Raises NotFound with the text `missing`, IntegrityError."""
        try:
            try:
                return await self._fetched(path, key)
            except IntegrityError:
                return await self._fetched(path, key)  # it may have changed on its way; it hardly does so twice
        except NotFound as error:
            raise NotFound(missing, operation="blocks.get", subject=key.text) from error
        except IntegrityError as error:
            raise _damaged(key, error.message) from error

    async def _fetched(self, path: str, key: BlockKey) -> bytes:
        """The bytes. Raises IntegrityError if they are not those of the key."""
        data = await self.driver.get(path, key.text, key.size)
        if key.size <= _INLINE_BYTES:
            return _verified(data, key)
        return await self._pool.run(lambda flag: _verified(data, key))

    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        return await side_by_side([self._exists(key) for key in keys])

    async def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        self.driver.requests.check_open()
        for algo in HashAlgo:
            folder = f"{algo.value}/"
            if folder.startswith(prefix):
                async for key in self._list(algo, ""):
                    yield key
            elif prefix.startswith(folder):
                async for key in self._list(algo, prefix[len(folder) :]):
                    yield key

    async def _list(self, algo: HashAlgo, start: str) -> AsyncIterator[BlockKey]:
        """Keys of blocks of `algo` whose name begins with `start`."""
        folder = self.folder(algo)
        whole = self._parsed(f"{folder}/{start}") if start else None
        if whole is not None and await self.driver.exists(self.path(whole), whole.text):
            yield whole  # the listing begins after that name
        async for found in self.driver.list(folder, folder, f"{folder}/{start}" if start else ""):
            if not found.path.startswith(f"{folder}/{start}"):
                return
            key = self._parsed(found.path)
            if key is not None and key != whole:
                yield key

    def _parsed(self, path: str) -> BlockKey | None:
        try:
            return self.layout.parse_path(path)
        except InvalidInput:
            return None

    def path(self, key: BlockKey) -> str:
        """The name of the object of a block."""
        return self.layout.block_path(key)

    def folder(self, algo: HashAlgo) -> str:
        """What the names of all blocks of `algo` begin with, without the slash."""
        return f"{self.layout.prefix}/{algo.value}" if self.layout.prefix else algo.value

    async def aclose(self) -> None:
        await self.driver.aclose()
        await self._pool.close()


class S3BlockStore(ObjectBlockStore):
    """Blocks in a bucket of S3, MinIO or any other server that speaks its language."""

    def __init__(
        self,
        config: S3Config,
        *,
        metrics: MetricsRegistry | None = None,
        events: EventSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises ConfigError for settings that cannot be used; nothing is sent yet."""
        self.config = config
        super().__init__(
            S3Driver(data_store(config), S3Api.of(config, metrics, clock)),
            CasLocatorStrategy("s3", config.bucket, config.prefix),
            Capabilities(persistent=True, durable=True, multi_process=True),
            events,
            clock,
        )


def _plain(payload: Buffer) -> Buffer:
    """As bytes, one after the other: what the driver takes."""
    if isinstance(payload, memoryview) and (payload.format != "B" or payload.ndim != 1):
        return payload.cast("B")
    return payload


def _verified(data: Buffer, key: BlockKey) -> bytes:
    if key.algo.digest(data) != key.digest:
        raise IntegrityError("its bytes have another digest", operation="blocks.get", subject=key.text)
    return bytes(data)


def _damaged(key: BlockKey, what: str) -> IntegrityError:
    return IntegrityError(f"block {key.text} is damaged: {what}", operation="blocks.get", subject=key.text, hint=_HINT)
