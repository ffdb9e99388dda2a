"""`FsImmutableObjectStore` and `FsMutableObjectStore`: objects as files below a folder of their own.

Names on disk: docs/formats/filesystem-layout.md. Folders are entered one by one with O_NOFOLLOW, so no path and no
link leads out of the root.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from graviton.backends.filesystem._disk import Disk
from graviton.backends.filesystem._object_names import encode_path
from graviton.backends.filesystem._object_pieces import Pending, Pieces
from graviton.backends.filesystem._object_tree import Found, ObjectTree
from graviton.backends.filesystem._object_upload import Upload
from graviton.backends.filesystem.errors import mapped
from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.core.buffers import Buffer
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import ConfigError, IntegrityError, InvalidInput, RangeNotSatisfiable
from graviton.ports.capabilities import Capabilities
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore, ObjectSource, ObjectStat

__all__ = ["FsImmutableObjectStore", "FsMutableObjectStore", "FsObjectConfig"]

_T = TypeVar("_T")

_LIST_PAGE: Final = 500
"""Objects per thread hop of a listing; each costs a stat of about 2 us."""


@dataclass(frozen=True, slots=True)
class FsObjectConfig:
    """Settings of one object store in a folder."""

    root: Path
    """Folder of its own; created (0700) by the first put if it is missing."""
    bucket: str = "default"
    """Name in its locators, `file://<bucket>/<path>`."""
    workers: int = 4
    """Threads, 1 to 64, started when they are needed."""

    def __post_init__(self) -> None:
        try:
            Locator("file", self.bucket, "x")
        except InvalidInput as error:
            raise ConfigError(str(error), operation="configure", subject=self.bucket) from error
        if not 1 <= self.workers <= 64:
            raise ConfigError(f"workers is 1 to 64, not {self.workers}", operation="configure", subject="workers")
        object.__setattr__(self, "root", Path(self.root).absolute())


class FsImmutableObjectStore(ImmutableObjectStore):
    """Reads what a mutable store on the same folder wrote."""

    capabilities = Capabilities(persistent=True, durable=True, multi_process=True)

    def __init__(self, config: FsObjectConfig, *, disk: Disk | None = None) -> None:
        self.config = config
        self._disk = Disk() if disk is None else disk
        self._tree = ObjectTree(self._disk, str(config.root))
        self._pool = WorkerPool(config.workers, "objects")

    async def head(self, locator: Locator) -> ObjectStat | None:
        self._check(locator)

        def look() -> ObjectStat | None:
            name = encode_path(locator.path)
            try:
                with self._tree.folder(name.folders) as folder:
                    found = self._disk.stat(name.file, folder)
            except FileNotFoundError:
                return None
            _check_regular(found.st_mode, locator)
            return ObjectStat(locator, found.st_size, found.st_mtime_ns)

        return await self._run("objects.head", locator, look)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        self._pool.check_usable()
        walk = self._tree.walk(prefix.encode())

        def page(flag: CancelFlag) -> list[Found]:
            with mapped("objects.list", str(self.config.root)):
                return list(islice(walk, _LIST_PAGE))

        while found := await self._pool.run(page):
            for one in found:
                yield ObjectStat(Locator("file", self.config.bucket, one.path.decode()), one.size, one.modified_ns)

    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        self._check(locator)

        def open_it() -> Pieces:
            fd = self._open(locator)
            try:
                size = self._disk.fstat(fd).st_size
                wanted = Span(0, size) if span is None else span
                if wanted.end > size:
                    raise RangeNotSatisfiable(
                        f"{wanted} is not within the {size} bytes of {locator}",
                        operation="objects.get",
                        subject=str(wanted),
                    )
                return Pieces(self._disk, self._pool, fd, wanted, locator)
            except BaseException:
                self._disk.close(fd)
                raise

        return await self._run("objects.get", locator, open_it, missing=True)

    def _open(self, locator: Locator) -> int:
        name = encode_path(locator.path)
        fd = -1
        try:
            with self._tree.folder(name.folders) as folder:
                fd = self._disk.open(name.file, folder)
            _check_regular(self._disk.fstat(fd).st_mode, locator)
        except BaseException:
            if fd >= 0:
                self._disk.close(fd)
            raise
        return fd

    async def _run(self, operation: str, locator: Locator, step: Callable[[], _T], missing: bool = False) -> _T:
        text = f"there is no object {locator}" if missing else ""

        def mapped_step(flag: CancelFlag) -> _T:
            with mapped(operation, locator.text, text):
                return step()

        return await self._pool.run(mapped_step)

    def _check(self, locator: Locator) -> None:
        self._pool.check_usable()
        if locator.scheme != "file" or locator.bucket != self.config.bucket:
            raise InvalidInput(
                f"{locator} is not in file://{self.config.bucket}/, which is all that this store serves",
                subject=locator.text,
            )

    async def aclose(self) -> None:
        await self._pool.close()


class FsMutableObjectStore(FsImmutableObjectStore, MutableObjectStore):
    """Objects that are replaced by rename: durable and whole, or not there."""

    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        """Pieces of a plain iterable are taken on a worker thread, those of an async one on the loop."""
        self._check(locator)
        if isinstance(source, AsyncIterable):
            return await self._put_async(locator, source)
        pieces = (source,) if isinstance(source, bytes | bytearray | memoryview) else source
        return await self._pool.run(lambda flag: self._put_pieces(locator, iter(pieces), flag))

    def _put_pieces(self, locator: Locator, pieces: Iterable[Buffer], flag: CancelFlag) -> ObjectStat:
        upload = self._begin(locator)
        pending = Pending()
        try:
            for piece in pieces:
                flag.check()
                with mapped("objects.put", locator.text):
                    for data in pending.add(piece):
                        upload.write(data)
            flag.check()
            return self._finish(locator, upload, pending)
        finally:
            upload.abort()

    async def _put_async(self, locator: Locator, source: AsyncIterable[Buffer]) -> ObjectStat:
        opened: list[Upload] = []
        pending = Pending()
        try:
            await self._pool.run(lambda flag: opened.append(self._begin(locator)))
            async for piece in source:
                ready = pending.add(piece)
                if ready:
                    await self._pool.run(partial(self._write, locator, opened[0], ready))
            return await self._pool.run(lambda flag: self._finish(locator, opened[0], pending))
        finally:
            if opened:
                await self._pool.run(lambda flag: opened[0].abort(), must_run=True)

    def _begin(self, locator: Locator) -> Upload:
        with mapped("objects.put", locator.text):
            return Upload(self._tree, encode_path(locator.path), locator.text)

    def _write(self, locator: Locator, upload: Upload, ready: list[Buffer], flag: CancelFlag) -> None:
        with mapped("objects.put", locator.text):
            for data in ready:
                upload.write(data)

    def _finish(self, locator: Locator, upload: Upload, pending: Pending) -> ObjectStat:
        with mapped("objects.put", locator.text):
            upload.write(pending.rest())
            found = upload.finish()
        return ObjectStat(locator, found.st_size, found.st_mtime_ns)

    async def delete(self, locator: Locator) -> bool:
        self._check(locator)

        def remove() -> bool:
            name = encode_path(locator.path)
            try:
                with self._tree.folder(name.folders) as folder:
                    self._disk.unlink(name.file, folder)
                    self._disk.fsync(folder)
            except FileNotFoundError:
                return False
            self._tree.prune(name.folders)
            return True

        return await self._run("objects.delete", locator, remove)

    async def copy(self, source: Locator, target: Locator) -> ObjectStat:
        self._check(source)
        self._check(target)

        def copy_it() -> ObjectStat:
            fd = self._open(source)
            try:
                found = self._disk.fstat(fd)
                if source == target:
                    return ObjectStat(target, found.st_size, found.st_mtime_ns)
                upload = self._begin(target)
                try:
                    upload.copy_from(fd, found.st_size)
                    return self._finish(target, upload, Pending())
                finally:
                    upload.abort()
            finally:
                self._disk.close(fd)

        return await self._run("objects.copy", source, copy_it, missing=True)


def _check_regular(mode: int, locator: Locator) -> None:
    if not stat.S_ISREG(mode):
        raise IntegrityError(
            f"no regular file lies where {locator} belongs",
            operation="objects",
            subject=locator.text,
            hint="Look at what lies there and move it away; the store never makes such entries.",
        )
