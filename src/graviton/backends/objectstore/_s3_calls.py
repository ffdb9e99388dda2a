"""`S3Calls`: one bucket through `botocore`, each call on a thread; and what concerns the bucket itself.

A call that was cancelled returns when its request has ended: none is left to have its effect later, and none reads
memory that is somebody else's by then. What only reads is cut off then. Every request is cut off when its whole answer
is not there `request_seconds` after all of it was sent; it may have had its effect.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from graviton.backends.objectstore._s3_lines import Line, make_cuttable
from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import S3Config
from graviton.backends.objectstore.errors import no_bucket, no_server
from graviton.backends.objectstore.metrics import S3Metrics
from graviton.backends.objectstore.requests import Requests, Tried
from graviton.concurrency.calls import CallCancelled, CancelFlag
from graviton.concurrency.executors import WorkerPool
from graviton.core.clock import Clock
from graviton.errors import NotFound, Unavailable
from graviton.ports.metrics import MetricsRegistry

if TYPE_CHECKING:
    from botocore.client import BaseClient

__all__ = ["S3Calls", "member"]

_T = TypeVar("_T")

_SLOW: Final = "Look at the server and the network between; then try again."

_CLEANUP_SECONDS: Final = 5.0
"""For how long a request that cleans up is tried again: somebody waits for it who has an error already."""


class S3Calls:
    """Calls about the bucket of `config`, bounded and tried again by `requests`. Usable from several event loops.
    Making one touches nothing."""

    def __init__(self, config: S3Config, requests: Requests) -> None:
        self.config = config
        self.requests = requests
        self._pool = WorkerPool(config.max_requests, "s3")
        self._lock = threading.Lock()
        self._clients: list[BaseClient] = []
        """One at most, shared with those that `cleaning` made."""
        self._answer_seconds = config.request_seconds
        """After which a request that may be cut off is cut off."""
        self.bucket_seen = False
        """Whether an answer has told that the bucket is there."""

    @classmethod
    def of(cls, config: S3Config, metrics: MetricsRegistry | None = None, clock: Clock | None = None) -> Self:
        """With the bounds of `config`."""
        requests = Requests(
            config.bucket,
            max_requests=config.max_requests,
            max_bytes=config.max_request_bytes,
            retry_seconds=config.retry_seconds,
            metrics=S3Metrics(metrics),
            clock=clock,
        )
        return cls(config, requests)

    def once(self) -> Self:
        """The same, with the same threads, that tries nothing again."""
        made = copy(self)
        made.requests = self.requests.once()
        return made

    @asynccontextmanager
    async def cleaning(self) -> AsyncIterator[Self]:
        """The same in a hurry, also after `aclose`: for giving back what must not stay on the server."""
        made = copy(self)
        made.requests = self.requests.for_cleanup(_CLEANUP_SECONDS)
        made._answer_seconds = min(self._answer_seconds, _CLEANUP_SECONDS)
        made._pool = WorkerPool(1, "s3-cleanup")
        try:
            yield made
        finally:
            await made._pool.close()
            if self.requests.is_closed:
                self._close_clients()

    async def check_bucket(self) -> None:
        """Raise ConfigError if there is no bucket."""
        try:
            await self.call("head_bucket", f"bucket {self.config.bucket}", "head_bucket", reads=True)
        except NotFound as error:
            raise no_bucket(self.config.bucket) from error
        self.bucket_seen = True

    async def call(
        self,
        operation: str,
        subject: str,
        method: str,
        *,
        needs: Sequence[str] = (),
        reads: bool = False,
        tried: Tried | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """What `method` of the driver's client answers to a call about the bucket; `needs` is what every answer to it
        has: see `member`. The rest is as in `Requests.run`."""

        def call(client: Any, flag: CancelFlag) -> dict[str, Any]:
            told: dict[str, Any] = getattr(client, method)(Bucket=self.config.bucket, **arguments)
            for name in needs:
                member(told, name, operation, subject)
            return told

        return await self.on_thread(operation, subject, call, reads=reads, tried=tried)

    async def on_thread(
        self,
        operation: str,
        subject: str,
        call: Callable[[Any, CancelFlag], _T],
        *,
        reads: bool = False,
        size: int = 0,
        moved: Callable[[_T], int] | None = None,
        tried: Tried | None = None,
    ) -> _T:
        """What `call(client, flag)` gives, on a thread; the flag says whether somebody still waits. One that `reads`
        may be cut off: it changes nothing on the server, or does no harm when it arrives late. Cancelled, `tried` tells
        whether its request was answered, as it does else."""
        is_on_its_way = False

        def work(flag: CancelFlag) -> _T:
            nonlocal is_on_its_way
            flag.check()
            client = self._opened()
            is_on_its_way = True
            try:
                result = call(client, flag)
            except CallCancelled:  # by the body, of which the server has not got all
                is_on_its_way = False
                raise
            is_on_its_way = False
            return result

        async def attempt() -> _T:
            try:
                return await self._in_time(operation, subject, work, reads)
            except asyncio.CancelledError:
                if tried is not None and is_on_its_way:
                    tried.is_open = True
                raise

        return await self.requests.run(operation, subject, attempt, size=size, moved=moved, tried=tried)

    async def _in_time(self, operation: str, subject: str, work: Callable[[CancelFlag], _T], reads: bool) -> _T:
        line, seconds = Line(), self._answer_seconds

        def on_line(flag: CancelFlag) -> _T:
            with line:
                return work(flag)

        try:
            with line.watched(seconds):
                told = await self._pool.run(on_line, interrupt=line.cut if reads else None)
        except Exception:
            if not line.was_cut:
                raise
        else:
            if not line.was_cut:
                return told
        # Without what the driver raised, which has the request in it.
        text = f"{operation} {subject}: no whole answer in {seconds:g} s"
        raise Unavailable(text, operation=operation, subject=subject, hint=_SLOW)

    def _opened(self) -> BaseClient:
        """On a thread: making the driver's client takes 0.1 s."""
        with self._lock:
            if not self._clients:
                client = s3_client(self.config, self.config.max_requests)
                make_cuttable(client)
                self._clients.append(client)
            return self._clients[0]

    async def aclose(self) -> None:
        """End the threads and close connections. Idempotent."""
        self.requests.close()
        await self._pool.close()
        self._close_clients()

    def _close_clients(self) -> None:
        with self._lock:
            while self._clients:
                self._clients.pop().close()


def member(told: Mapping[str, Any], name: str, operation: str, subject: str) -> Any:
    """A member (`a.b` is a member of a member) of an answer that every server gives. The driver takes any page, and an
    empty one, for an answer in which nothing is said: raises Unavailable for those."""
    found: Any = told
    for one in name.split("."):
        found = found.get(one)
        if found is None:
            raise no_server(operation, subject)
    return found
