"""Puts over the network: small ones, streams, and large ones that go on where they broke off.

| source | how it is sent | after a break |
|---|---|---|
| small, so that all of it is in memory after the first read | one request with its length | is sent again |
| large, can be read from any byte | a resumable upload, if the server offers that | goes on at the offset |
| any other that can be read from any byte | one request without a length | is sent again |
| can be read once | one request without a length | fails, unless no more than the first piece had left |

Whatever comes back, the id is compared with the hash of the bytes that were read here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from graviton.backends.http.answers import ServersDefaults, attributes_of, defaults_of, report_of, stat_of
from graviton.backends.http.bodies import Body, Hashes
from graviton.backends.http.requests import Requests, blob_path
from graviton.backends.http.retrying import Retrying
from graviton.backends.http.sources import PIECE_BYTES, SentSource, open_source
from graviton.backends.http.uploads import Uploads
from graviton.backends.http.wishes import Done, Wishes
from graviton.concurrency.executors import WorkerPool
from graviton.concurrency.finishing import finish_anyway
from graviton.constraints.budget import ByteBudget
from graviton.core.attribute_text import ATTRIBUTES_FIELD, MAX_ASKED_CHARS, encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.clock import Clock
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.errors import DigestMismatch, GravitonError, IntegrityError, LimitExceeded
from graviton.ports.blobs import BlobSource, BlobWriteResult, IngestStats
from graviton.stores.results import blob_locator, check_policy, warn_if_other

__all__ = ["HttpDefaults", "Puts"]

_PUT_BYTES: Final = 4 * PIECE_BYTES
"""What a put may hold: the first piece, one that is being read, one that is being sent, and what the system has not
taken yet. A small one holds its bytes and a copy on its way out."""


class HttpDefaults(NamedTuple):
    """What a plan that says nothing gets; None leaves it to the server."""

    hash: HashAlgo | None = None
    chunker: ChunkerSpec | None = None
    policy: StorePolicy | None = None


class Puts:
    """All puts of one store."""

    def __init__(
        self, requests: Requests, defaults: HttpDefaults, pool: WorkerPool, budget: ByteBudget, clock: Clock
    ) -> None:
        self._requests, self._defaults = requests, defaults
        self._pool, self._budget, self._clock = pool, budget, clock
        self._uploads = Uploads(requests, clock)
        self._servers_hash: HashAlgo | None = None
        """What the server hashes with unless it is told. Once it is known it is asked for, so that it stays so."""
        self._has_compared = False

    async def put(self, source: BlobSource, plan: BlobWritePlan) -> BlobWriteResult:
        """See `BlobStore.put`."""
        began = self._clock.monotonic()
        check_policy(plan.policy or self._defaults.policy)
        if not self._has_compared:
            await self._compare_defaults()
        sent = await open_source(source, self._pool)
        try:
            held = _PUT_BYTES if sent.size is None else min(_PUT_BYTES, 2 * sent.size + 1)
            lease = await self._budget.lease(held, self._budget.for_puts)
            try:
                await sent.begin()
                algo = plan.hash or self._defaults.hash or await self._hash(sent)
                done = await self._send(sent, self._wishes(plan, algo))
            finally:
                lease.release()
        finally:
            await sent.aclose()
        await self._compare(done, plan)
        return await self._result(done, plan, self._clock.monotonic() - began)

    async def _hash(self, sent: SentSource) -> HashAlgo | None:
        """What the server hashes with. Nobody asks it because of a small blob, which is hashed with all there is."""
        if self._servers_hash is None and not sent.is_whole:
            self._servers_hash = (await self._ask()).hash
        return self._servers_hash

    async def _compare_defaults(self) -> None:
        """Warn once of what is put otherwise than what is there, as a store here does."""
        asked, self._has_compared = self._defaults, True
        if asked.hash is not None or asked.chunker is not None:
            servers = await self._ask()
            self._servers_hash = servers.hash
            if servers.hash is not None and servers.chunker is not None:
                warn_if_other("hash", asked.hash.value if asked.hash else None, servers.hash.value)
                warn_if_other("chunker", asked.chunker.text if asked.chunker else None, servers.chunker)

    async def _ask(self) -> ServersDefaults:
        async def attempt() -> ServersDefaults:
            answer = await self._requests.call("GET", "/api/stats", operation="put")
            return defaults_of(answer.json("put"))

        try:
            return await Retrying(self._requests, self._clock).run(attempt)
        except IntegrityError:  # of its sums, which a put needs for nothing
            return ServersDefaults()

    def _wishes(self, plan: BlobWritePlan, algo: HashAlgo | None) -> Wishes:
        chunker = plan.chunker or self._defaults.chunker
        headers = {ATTRIBUTES_FIELD: encode_attributes(plan.attributes)}
        if len(headers[ATTRIBUTES_FIELD]) > MAX_ASKED_CHARS:
            raise LimitExceeded(
                "the attributes are too large to be sent to a server",
                operation="put",
                hint=f"In base64 they have at most {MAX_ASKED_CHARS} characters; what is more belongs into a blob.",
            )
        if algo is not None:
            headers["X-Graviton-Hash"] = algo.value
        if chunker is not None:
            headers["X-Graviton-Chunker"] = chunker.text
        query = {name: value for name, value in (("domain", plan.domain), ("holder", plan.holder)) if value}
        return Wishes(headers, query, tuple(HashAlgo) if algo is None else (algo,))

    async def _send(self, sent: SentSource, wishes: Wishes) -> Done:
        """Send the bytes, in the way that fits them."""
        size = sent.size or 0
        if sent.is_seekable and size > self._requests.config.resumable_bytes and await self._uploads.takes(size):
            return await self._uploads.put(sent, size, wishes, lambda: Hashes(wishes.algos, self._pool))
        return await self._post(sent, wishes)

    async def _post(self, sent: SentSource, wishes: Wishes) -> Done:
        retrying = Retrying(self._requests, self._clock)
        run = await sent.run()
        assert run is not None, "nothing was read beyond the first piece"
        while True:
            hashes = Hashes(wishes.algos, self._pool)
            end = sent.size if sent.is_whole else None
            body = Body(run, hashes, self._requests.config.idle_seconds, end=end)
            try:
                answer = await self._requests.call(
                    "POST", "/api/blobs", operation="put", query=wishes.query, headers=wishes.headers, body=body
                )
                return Done(report_of(answer.headers), attributes_of(answer.headers), hashes)
            except GravitonError as error:
                await body.aclose()
                run = None if error is body.failure else await sent.run()
                if run is None:
                    raise
                await retrying.again(error)
            finally:
                await body.aclose()

    async def _compare(self, done: Done, plan: BlobWritePlan) -> None:
        """Whether what is stored is what was read. If not, it is taken away again, unless it was there before."""
        key, report = done.hashes.key(done.report.key.algo), done.report
        if key == report.key:
            if not (plan.hash or self._defaults.hash):
                self._servers_hash = key.algo
            return
        if report.created:
            await finish_anyway(self._take_back(report.key, plan))
        raise DigestMismatch(
            f"the server stored {report.key.text}, and what was read here is {key or 'hashed otherwise'}",
            operation="put",
            subject=report.key.text,
            hint="The source changed meanwhile, or something on the way changes bytes. Put it again.",
        )

    async def _take_back(self, key: BlobKey, plan: BlobWritePlan) -> None:
        query = {name: value for name, value in (("domain", plan.domain), ("holder", plan.holder)) if value}
        try:
            await self._requests.call("DELETE", blob_path(key), operation="put", subject=key.text, query=query)
        except GravitonError:
            pass  # what is told is that the put failed; that blob is whole, and nobody's

    async def _result(self, done: Done, plan: BlobWritePlan, seconds: float) -> BlobWriteResult:
        report = done.report
        stats = IngestStats(
            report.key.size,
            report.cut_blocks,
            report.fresh_blocks,
            report.fresh_bytes,
            report.repaired_blocks,
            seconds,
        )
        attributes = done.attributes if done.attributes is not None else await self._attributes(report.key, plan)
        locator = plan.locator_hint or blob_locator(report.key)
        return BlobWriteResult(report.key, locator, attributes, stats, report.chunker, report.created, report.blocks)

    async def _attributes(self, key: BlobKey, plan: BlobWritePlan) -> BinaryAttributes:
        """Those that are too many for the head of an answer."""

        async def attempt() -> BinaryAttributes:
            query = {"domain": plan.domain} if plan.domain else {}
            answer = await self._requests.call(
                "GET", blob_path(key, "/stat"), operation="put", subject=key.text, query=query
            )
            return stat_of(answer.json("put", key.text), "put", key).attributes

        return await Retrying(self._requests, self._clock).run(attempt)
