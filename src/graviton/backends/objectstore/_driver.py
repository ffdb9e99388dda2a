"""`Driver`: one bucket or container through `obstore`; one method per kind of request.

It is the only module that calls `obstore`. Paths are whole keys. Nothing here knows blocks.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from graviton.backends.objectstore._lending import Lending
from graviton.backends.objectstore.errors import no_server
from graviton.backends.objectstore.requests import Requests, Tried
from graviton.concurrency.finishing import finish_anyway
from graviton.core.buffers import Buffer
from graviton.errors import IntegrityError, NotFound, PreconditionFailed, Retry, Unavailable, Unsupported

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["Driver", "Found"]

_LIST_PAGE = 1000
"""Names per request: what S3 gives at most."""

_SETTLE_SECONDS = 0.05
"""The driver's threads let go of Python's objects a moment after they gave their result. One that comes to that when
the interpreter is being taken down aborts the whole process: 4 of 100 short programs, without this pause before the
end, 0 of 200 with it. (Our own commands do not take it down.)"""

_runtime_pid: int | None = None
"""The process in which the driver's threads run. They do not survive a fork, and cannot be begun again."""


class Found(NamedTuple):
    """An object as a listing has it."""

    path: str
    size: int


class Driver:
    """Requests raise the errors of docs/object-storage.md; `subject` is what they are about, for people."""

    def __init__(self, store: ObjectStore, requests: Requests, *, keeps_memory: bool = False) -> None:
        """`keeps_memory`: the store refers to what it is given for ever, so it is given copies."""
        self._store = store
        self._keeps_memory = keeps_memory
        self._lending = Lending(requests.max_bytes)
        self._bucket_seen = False
        self.requests = requests

    def hurried(self, seconds: float) -> Driver:
        """The same, giving up after so many seconds if that is earlier. Closed with this one."""
        return Driver(self._store, self.requests.hurried(seconds), keeps_memory=self._keeps_memory)

    async def put(self, path: str, payload: Buffer, subject: str) -> None:
        """Create or replace an object."""
        await self._put(path, payload, subject, "overwrite")

    async def put_new(self, path: str, payload: Buffer, subject: str) -> bool:
        """Create an object; False if there is one already. Servers that do not know the condition, or refuse requests
        with one, replace it."""
        tried = Tried()
        try:
            await self._put(path, payload, subject, "create", tried)
        except PreconditionFailed:
            return tried.is_open  # it was our own earlier try, as far as anybody can tell
        except Unsupported:
            await self._put(path, payload, subject, "overwrite")
        return True

    async def refuses_again(self, path: str, payload: Buffer, subject: str) -> bool:
        """Whether the server refuses to create an object, whose bytes these are, because there is one. Unlike
        `put_new` it knows that there is, so the last answer tells, whatever became of the tries before it."""
        try:
            await self._put(path, payload, subject, "create")
        except PreconditionFailed:
            return True
        except Unsupported:
            pass
        return False

    async def _put(self, path: str, payload: Buffer, subject: str, mode: Any, tried: Tried | None = None) -> None:
        async def attempt() -> None:
            async with self._lending.lent(bytes(payload) if self._keeps_memory else payload) as body:
                told = await self._store.put_async(path, body, mode=mode, use_multipart=False)
                self._check_etag(told["e_tag"], "put", subject)

        await self._run("put", subject, attempt, size=len(payload), tried=tried)

    async def get(self, path: str, subject: str, size: int) -> memoryview:
        """The bytes of an object that has `size` of them. Raises NotFound; IntegrityError if it has another size, and
        reads nothing of it then."""

        async def attempt() -> memoryview:
            result = await self._store.get_async(path)
            found = self._checked(result.meta, "get", subject)["size"]
            if found != size:
                raise IntegrityError(f"{subject} has {found} bytes instead of {size}", operation="get", subject=subject)
            data = await _read(result, size)
            if len(data) != size:
                count = f"{len(data)} of {size}" if len(data) < size else f"more than the {size}"
                raise Unavailable(f"{count} bytes of {subject} arrived", operation="get", subject=subject)
            return data

        data: memoryview = await self._run("get", subject, attempt, size=size)
        return data

    async def get_small(self, path: str, subject: str, limit: int) -> bytes | None:
        """Up to `limit` bytes of an object; None if there is none."""

        async def attempt() -> bytes:
            result = await self._store.get_async(path)
            self._checked(result.meta, "get", subject)
            return bytes((await _read(result, limit))[:limit])

        try:
            data: bytes = await self._run("get", subject, attempt)
        except NotFound:
            return None
        return data

    async def exists(self, path: str, subject: str) -> bool:
        """Whether there is an object. Raises ConfigError if there is no bucket."""

        async def attempt() -> None:
            self._checked(await self._store.head_async(path), "head", subject)

        try:
            await self._run("head", subject, attempt)
        except NotFound:
            await self._see_bucket(subject)
            return False
        return True

    async def copy_to_new(self, path: str, to: str, subject: str) -> None:
        """Copy an object inside the server to a name that is new. Raises NotFound. Cancelled, it waits for the answer.

        A copy counts when it has been seen: the server says 200 before it copies, and what became of it in the body,
        of which the driver looks for two codes only. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
        """

        async def attempt() -> None:
            await finish_anyway(self._store.copy_async(path, to))
            try:
                self._checked(await self._store.head_async(to), "copy", subject)
            except FileNotFoundError as error:
                text = f"the server said that it copied {subject}, and there is no copy"
                raise Unavailable(text, operation="copy", subject=subject) from error

        await self._run("copy", subject, attempt)

    async def delete(self, paths: Sequence[str], subject: str) -> None:
        """Remove objects, whether they are there or not; in as few requests as the server allows. Cancelled, it waits
        for the answer: a delete that is given up may still arrive, when something else lies there."""

        try:
            await self._run("delete", subject, lambda: finish_anyway(self._store.delete_async(list(paths))))
        except NotFound:  # of stores that mind; they stop at the first
            if len(paths) > 1:
                for path in paths:
                    await self.delete([path], subject)

    async def list(self, folder: str, subject: str, after: str = "") -> AsyncGenerator[Found, None]:
        """Objects below `folder`, in the order of names, those after the name `after` only."""
        last, stream = after, None

        async def page() -> Sequence[Any] | None:
            nonlocal stream
            if stream is None:
                stream = self._store.list(folder, offset=last or None, chunk_size=_LIST_PAGE)
            try:
                return await anext(stream)
            except StopAsyncIteration:
                return None
            except BaseException:
                stream = None  # the next try begins after what was given out
                raise

        while (found := await self._run("list", subject, page)) is not None:
            for one in found:
                if one["path"] != last:  # rclone tells a name twice when two have written it at the same moment
                    last = one["path"]
                    yield Found(last, one["size"])

    async def aclose(self) -> None:
        """Refuse further operations. Idempotent."""
        self.requests.close()

    async def _see_bucket(self, subject: str) -> None:
        """Raise ConfigError if there is no bucket, which the answer to a HEAD does not tell."""
        if not self._bucket_seen:
            async with aclosing(Driver.list(self, "", subject)) as found:
                async for _ in found:
                    break
            self._bucket_seen = True

    def _checked(self, meta: Mapping[str, Any], operation: str, subject: str) -> Mapping[str, Any]:
        """What is told of an object."""
        self._check_etag(meta["e_tag"], operation, subject)
        return meta

    def _check_etag(self, etag: str | None, operation: str, subject: str) -> None:
        """Every store tells an ETag. A page of somebody else's may have none: taken for the object, a block would count
        as there, or as damaged."""
        if not etag:
            raise no_server(operation, subject)

    async def _run(self, operation: str, subject: str, attempt: Any, **more: Any) -> Any:
        _check_runtime()
        return await self.requests.run(operation, subject, attempt, **more)


async def _read(result: Any, size: int) -> memoryview:
    """The bytes of an answer, and no more than the next few after `size` of them: a server may send without end,
    whatever length it told. In one piece: the driver gathers it, as it does for an answer that is read whole."""
    stream = result.stream(min_chunk_size=size + 1)
    async for piece in stream:
        return memoryview(piece)
    return memoryview(b"")


def _check_runtime() -> None:
    global _runtime_pid  # noqa: PLW0603 - the threads are the process's
    if _runtime_pid is None:
        _runtime_pid = os.getpid()
        atexit.register(time.sleep, _SETTLE_SECONDS)
    elif _runtime_pid != os.getpid():
        raise Unavailable(
            "object storage was used in the process that this one was forked from, and cannot be used here",
            operation="objectstore",
            hint="Start processes by spawn (multiprocessing), or fork before the first use.",
            retry=Retry.PERMANENT,
        )
