"""`HttpBlobStore`: the store of a server, behind a URL."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Final

from graviton.backends.http.answers import attributes_of, blobs_page, blocks_page, quota_of, stat_of, totals_of
from graviton.backends.http.config import HttpConfig
from graviton.backends.http.outgoing import Outgoing
from graviton.backends.http.puts import HttpDefaults, Puts
from graviton.backends.http.reader import HttpBlobReader, ReadParts, damaged, open_bytes
from graviton.backends.http.requests import Requests, TooLargeError, blob_path
from graviton.backends.http.retrying import Retrying
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.budget import ByteBudget
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestEntry
from graviton.core.names import check_name
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import (
    ConfigError,
    IntegrityError,
    InvalidInput,
    NotFound,
    RangeNotSatisfiable,
    TooManyRequests,
    Unavailable,
)
from graviton.metadata.key_prefix import blob_key_prefix
from graviton.ports.any_store import AnyStore, QuotaUse
from graviton.ports.blobs import BlobReader, BlobSource, BlobStat, BlobWriteResult, SmallBlob, check_limit
from graviton.ports.capabilities import Capabilities
from graviton.ports.manifests import StoreTotals, unlistable
from graviton.ports.metrics import MetricsRegistry, NoMetrics
from graviton.stores.operations import Operations

__all__ = ["HttpBlobStore"]

_THREADS: Final = 2
"""For hashing, and for reading files."""

_LIST_PAGE: Final = 500
"""Blobs asked for at once; fewer where their attributes are so many that a page gets too large."""

_BLOCKS_PAGE: Final = 4096

_PUTS_AT_ONCE: Final = 16
"""Puts on their way together; others wait here. The server lets 64 in at once, of all clients, has as many wait, and
tells the rest to come again in ten seconds. It stores small blobs that wait for each other with one fsync: 1,000 take
two thirds of the time that they take eight at a time."""


_OPENED_AT_ONCE: Final = 32
"""Gets whose answer has not begun; others wait here, for the same reason. Readers that are open do not count: somebody
may leave them open for as long as he likes."""


class HttpBlobStore(AnyStore):
    """See `AnyStore` for the laws, and docs/guides/client.md for what is tried again when. For the tasks of one event
    loop. Nothing is sent before it is used."""

    capabilities = Capabilities(persistent=True, durable=True, multi_process=True)
    """As far as the server's own store is so, which every one for more than tests is."""

    def __init__(
        self,
        config: HttpConfig,
        *,
        defaults: HttpDefaults = HttpDefaults(),
        budget: ByteBudget | None = None,
        metrics: MetricsRegistry | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises ConfigError if aiohttp is not installed."""
        if find_spec("aiohttp") is None:
            raise ConfigError(
                "a store behind a URL needs the package aiohttp, and it is not installed",
                operation="configure",
                subject=config.base,
                hint="Install it: pip install 'graviton[client]'.",
            )
        self.config = config
        self._clock = clock or SystemClock()
        self._budget = budget or ByteBudget()
        self._pool = WorkerPool(_THREADS, "http")
        self._requests = Requests(config)
        self._puts = Puts(self._requests, defaults, self._pool, self._budget, self._clock)
        self._operations = Operations(metrics or NoMetrics())
        self._putting = asyncio.Semaphore(_PUTS_AT_ONCE)
        self._opening = asyncio.Semaphore(_OPENED_AT_ONCE)

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        self._requests.check_open()
        with self._operations.running("put"):
            async with self._putting:
                return await self._puts.put(source, plan or BlobWritePlan())

    async def put_many(
        self, sources: Iterable[bytes | SmallBlob], plan: BlobWritePlan | None = None
    ) -> AsyncGenerator[BlobWriteResult, None]:
        """Several at a time, each in a request of its own; results in the order of `sources`. One that fails is raised
        in its turn; some of those after it may be stored by then."""
        going_on: deque[asyncio.Task[BlobWriteResult]] = deque()
        failure: Exception | None = None
        items = iter(sources)
        try:
            while failure is None:
                try:
                    item = next(items, None)
                    if item is None:
                        break
                    going_on.append(asyncio.create_task(self.put(*_small(item, plan or BlobWritePlan()))))
                except Exception as error:  # noqa: BLE001 - raised when everything before it was put
                    failure = error
                if len(going_on) == _PUTS_AT_ONCE:
                    yield await going_on.popleft()
            while going_on:
                yield await going_on.popleft()
            if failure is not None:
                raise failure
        finally:
            for task in going_on:
                task.cancel()
            await asyncio.gather(*going_on, return_exceptions=True)

    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        self._requests.check_open()
        asked = Span(0, key.size) if span is None else span
        parts = ReadParts(self._requests, self._pool, self._budget, check_name(domain))
        retrying = Retrying(self._requests, self._clock)
        with self._operations.running("get"):
            if asked.end > key.size or not asked.length:  # what HTTP has no ranges for
                found = await self._existing(key, domain)
                _check_span(asked, key)
                return HttpBlobReader(parts, key, asked, found.attributes, None, retrying)
            try:
                async with self._opening:
                    opened = await retrying.run(lambda: open_bytes(parts, key, asked))
            except IntegrityError as error:
                raise damaged(key, asked, asked.start, error) from error
            try:
                told = attributes_of(opened.response.headers)
                attributes = told if told is not None else (await self._existing(key, domain)).attributes
            except BaseException:
                opened.response.close()
                raise
            return HttpBlobReader(parts, key, asked, attributes, opened, retrying)

    async def _existing(self, key: BlobKey, domain: str) -> BlobStat:
        found = await self.stat(key, domain)
        if found is None:
            raise NotFound(f"there is no blob {key}", operation="blobs.get", subject=key.text)
        return found

    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        with self._operations.running("stat", measured=False):
            try:
                found = await self._json(blob_path(key, "/stat"), "stat", key.text, _query(domain=check_name(domain)))
            except NotFound:
                return None
            return stat_of(found, "stat", key)

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Not tried again once it was sent: nobody could tell then whether it was the first try that took the blob
        away. Raises Unavailable if its answer was lost."""
        query = _query(domain=check_name(domain), holder=check_name(holder, "holder"))
        self._requests.check_open()
        retrying = Retrying(self._requests, self._clock)
        with self._operations.running("delete"):
            while True:
                out = Outgoing()
                try:
                    await self._requests.call(
                        "DELETE", blob_path(key), operation="delete", subject=key.text, query=query, body=out
                    )
                    return True
                except NotFound:
                    return False
                except (Unavailable, TooManyRequests) as error:
                    if out.may_be_whole and not isinstance(error, TooManyRequests):
                        raise
                    await retrying.again(error)

    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Not tried again once it was sent, as `delete` is not."""
        query = _query(domain=check_name(domain), holder=check_name(holder, "holder"))
        self._requests.check_open()
        with self._operations.running("undelete"):
            try:
                path = blob_path(key, "/undelete")
                answer = await self._requests.call("POST", path, operation="undelete", subject=key.text, query=query)
            except NotFound:
                return False
            return answer.headers.get("X-Graviton-Undeleted") == "true"

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        self._requests.check_open()
        check_limit(limit)
        prefix = blob_key_prefix(prefix).text
        query = _query(prefix=prefix, domain=check_name(domain))
        left, size = limit, _LIST_PAGE
        unreadable: deque[str] = deque()
        while left is None or left > 0:
            asked = size if left is None else min(left, size)
            page_query = query | _query(after="" if after is None else after.text, limit=str(asked))
            try:
                page = blobs_page(await self._json("/api/blobs", "list", prefix, page_query), prefix, after)
            except TooLargeError:
                if asked == 1:
                    raise
                size = max(1, asked // 8)
                continue
            unreadable += page.unreadable
            for stat in page.stats:
                yield stat
            if page.next is None:
                break
            after = page.next
            left = None if left is None else left - len(page.stats)
        if unreadable:
            raise unlistable(len(unreadable), unreadable[0])

    async def manifest(self, key: BlobKey, domain: str = "") -> AsyncIterator[ManifestEntry]:
        self._requests.check_open()
        query = _query(domain=check_name(domain), limit=str(_BLOCKS_PAGE))
        offset: int | None = 0
        while offset is not None:
            found = await self._json(blob_path(key, "/manifest"), "blocks", key.text, query | {"after": str(offset)})
            page = blocks_page(found, key, offset)
            for entry in page.entries:
                yield entry
            offset = page.next

    async def totals(self, domain: str = "") -> StoreTotals:
        return totals_of(await self._json("/api/stats", "stats", "", _query(domain=check_name(domain))))

    async def quota_use(self) -> QuotaUse | None:
        return quota_of(await self._json("/api/stats", "stats", "", {}))

    async def required(self) -> HttpBlobStore:
        """This one: behind a URL there is a store, or the first request tells that there is none."""
        return self

    async def prepare(self) -> None:
        """Nothing: a server makes its store when it begins."""

    async def _json(self, path: str, operation: str, subject: str, query: Mapping[str, str]) -> Any:
        """The answer to a question, which may be asked again."""
        self._requests.check_open()

        async def attempt() -> Any:
            answer = await self._requests.call("GET", path, operation=operation, subject=subject, query=query)
            return answer.json(operation, subject)

        return await Retrying(self._requests, self._clock).run(attempt)

    async def aclose(self) -> None:
        """Operations that are going on are ended, as far as that can be, and raise Unavailable."""
        self._requests.refuse()
        try:
            await self._operations.end()
        finally:
            await finish_anyway(self._give_back())

    async def _give_back(self) -> None:
        await self._requests.aclose()
        await self._pool.close()


def _check_span(span: Span, key: BlobKey) -> None:
    if span.end > key.size:
        raise RangeNotSatisfiable(
            f"{span} is not within the {key.size} bytes of the blob", operation="blobs.get", subject=key.text
        )


def _query(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _small(item: bytes | SmallBlob, plan: BlobWritePlan) -> tuple[bytes, BlobWritePlan]:
    """One of many, with its own plan. Raises InvalidInput."""
    one = item if isinstance(item, SmallBlob) else SmallBlob(item)
    if not isinstance(one.data, bytes):
        raise InvalidInput(f"put_many takes bytes or SmallBlob, not {type(item).__name__}", operation="put_many")
    if not one.attributes.advertised and not one.attributes.confirmed:
        return one.data, plan
    return one.data, plan.replace(attributes=plan.attributes.merge(one.attributes))
