"""`FsBlockStore`: blocks as plain files, `<root>/<prefix>/<algo>/<hex>-<size>`.

The layout is a stored format: docs/formats/filesystem-layout.md. The reclaimer is in reclaimer.py.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import ExitStack, aclosing
from typing import TypeVar

from graviton.backends.filesystem._batch import BatchWriter, Syncfs
from graviton.backends.filesystem._disk import DirEntry, Disk
from graviton.backends.filesystem._folders import DurableFolders
from graviton.backends.filesystem._mounts import syncfs_is_durable
from graviton.backends.filesystem._names import TempName, TempNames, block_name, parse_block, parse_temp
from graviton.backends.filesystem._reading import read_verified
from graviton.backends.filesystem._scan import scan_pages
from graviton.backends.filesystem.config import FsConfig
from graviton.backends.filesystem.errors import mapped
from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.core.files import FileBatches, PythonFileBatches
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.errors import InvalidInput
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

__all__ = ["FsBlockStore"]

_T = TypeVar("_T")


class FsBlockStore(BlockStore):
    """Blocks in one directory. Making one touches nothing; folders appear with the first put.

    Any number of processes, threads and event loops may use the same place; after a fork the child opens its own. A
    folder that is not there holds no blocks; every other trouble is an error.
    """

    capabilities = Capabilities(persistent=True, durable=True, multi_process=True, runs_in_place=True)

    def __init__(
        self,
        config: FsConfig,
        *,
        syncfs: Syncfs | None = None,
        batches: FileBatches | None = None,
        disk: Disk | None = None,
    ) -> None:
        """`syncfs` is the kernel's; without it, and where it promises nothing, every file is fsynced by itself.
        `batches` is the kernel; without it the files of a batch are written and renamed call by call, by `disk`."""
        self.config = config
        self.disk = Disk() if disk is None else disk
        self.pool = WorkerPool(config.workers, "blocks")
        self.folders = DurableFolders(self.disk, str(config.root))
        self._blocks = str(config.blocks_path)
        self._syncfs = syncfs
        self._batches = PythonFileBatches(self.disk) if batches is None else batches
        self._writer: BatchWriter | None = None
        self._distrusted: set[str] = set()
        """Folders whose fsync failed: what seems to lie there may be gone after a crash, so it is written again."""

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        self.pool.check_usable()
        check_batch(blocks, plan)
        for key, payload in blocks:
            if isinstance(payload, memoryview) and not payload.c_contiguous:
                raise InvalidInput(f"the payload of block {key.text} has gaps in memory", subject=key.text)
        if not blocks:
            return BlockBatchResult.of((), plan)
        fresh = await self.pool.run(lambda flag: self._put(blocks, plan, flag))
        stored = []
        for block in blocks:
            status = BlockStatus.FRESH if block.key in fresh else BlockStatus.DUPLICATE
            fresh.discard(block.key)  # repeats are duplicates
            stored.append(StoredBlock(block.key, status))
        return BlockBatchResult.of(stored, plan)

    def _put(self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan, flag: CancelFlag) -> set[BlockKey]:
        distinct = {block.key: block for block in blocks}
        fresh: set[BlockKey] = set()
        for algo in {key.algo for key in distinct}:
            mine = [block for block in distinct.values() if block.key.algo is algo]
            fresh |= self._put_folder(algo, mine, plan, flag)
        return fresh

    def _put_folder(
        self, algo: HashAlgo, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan, flag: CancelFlag
    ) -> set[BlockKey]:
        path = self.folder_path(algo)
        with mapped("blocks.put", path), ExitStack() as stack:
            folder = self.folders.open(path)
            stack.callback(self.disk.close, folder)
            writer = self._writer_for(folder)
            if plan.mode is WriteMode.IF_ABSENT and path not in self._distrusted:
                blocks = [block for block in blocks if not writer.is_stored(block.key, folder)]
            if blocks:
                writer.write(blocks, folder, TempNames(plan.session), flag)
            # Also when all blocks were there: who wrote them may not have come to this point yet.
            self._sync_names(path, folder)
        return {block.key for block in blocks}

    def _sync_names(self, path: str, folder: int) -> None:
        try:
            self.disk.fsync(folder)
        except BaseException:
            self._distrusted.add(path)
            raise

    def _writer_for(self, folder: int) -> BatchWriter:
        if self._writer is None:
            syncfs = self._syncfs
            if syncfs is not None and not syncfs_is_durable(self.disk.fstat(folder).st_dev):
                syncfs = None
            self._writer = BatchWriter(self.disk, self.pool, self.config, self._batches, syncfs)
        return self._writer

    async def get(self, key: BlockKey) -> bytes:
        return await self.pool.run(lambda flag: self.read(key))

    def read(self, key: BlockKey) -> bytes:
        """On a worker: what `get` returns."""
        return read_verified(self.disk, self.block_path(key), key, "blocks.get", f"there is no block {key.text}")

    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        return await self.pool.run(lambda flag: [self._lies_there(key) for key in keys])

    def _lies_there(self, key: BlockKey) -> bool:
        with mapped("blocks.exists", key.text):
            try:
                found = self.disk.stat(self.block_path(key))
            except FileNotFoundError:
                return False
        return stat.S_ISREG(found.st_mode)

    async def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        self.pool.check_usable()
        for algo in HashAlgo:
            folder = f"{algo.value}/"
            if not (folder.startswith(prefix) or prefix.startswith(folder)):
                continue
            start = prefix[len(folder) :]

            def pick(entry: DirEntry, algo: HashAlgo = algo, start: str = start) -> BlockKey | None:
                if not entry.name.startswith(start) or not entry.is_file(follow_symlinks=False):
                    return None
                return parse_block(algo, entry.name)

            async with aclosing(self._scan(self.folder_path(algo), "blocks.list", pick)) as keys:
                async for key in keys:
                    yield key

    async def temp_files(self) -> AsyncIterator[TempName]:
        """Temporary files, each with the tag of the session that writes or wrote it; some may vanish meanwhile."""
        self.pool.check_usable()
        for algo in HashAlgo:
            path = self.folder_path(algo)

            def pick(entry: DirEntry, path: str = path) -> TempName | None:
                session = parse_temp(entry.name)
                if session is None or not entry.is_file(follow_symlinks=False):
                    return None
                return TempName(f"{path}/{entry.name}", session)

            async with aclosing(self._scan(path, "blocks.temp_files", pick)) as names:
                async for name in names:
                    yield name

    def _scan(self, path: str, operation: str, pick: Callable[[DirEntry], _T | None]) -> AsyncGenerator[_T, None]:
        return scan_pages(self.disk, self.pool, path, operation, pick)

    async def remove_temp(self, name: TempName) -> bool:
        """Remove a temporary file of a session that has ended; False if it was gone. Raises InvalidInput for a path
        that no temporary file of this store can have."""
        folder, _, file = name.path.rpartition("/")
        if parse_temp(file) != name.session or folder not in {self.folder_path(algo) for algo in HashAlgo}:
            raise InvalidInput(f"{name.path} is not a temporary file of this store", subject=name.path)

        def remove(flag: CancelFlag) -> bool:
            with mapped("blocks.remove_temp", name.path):
                try:
                    parent = self.disk.open_folder(folder)
                except FileNotFoundError:
                    return False
                try:
                    self.disk.unlink(file, parent)
                except FileNotFoundError:
                    return False
                finally:
                    self.disk.close(parent)
            return True

        return await self.pool.run(remove)

    def folder_path(self, algo: HashAlgo) -> str:
        """Absolute path of the folder with the blocks of `algo`."""
        return f"{self._blocks}/{algo.value}"

    def block_path(self, key: BlockKey) -> str:
        """Absolute path of the file of a block."""
        return f"{self._blocks}/{key.digest.algo.value}/{block_name(key)}"

    async def aclose(self) -> None:
        await self.pool.close()
