"""`InMemoryBlobStore`: the reference for `BlobStore`, a whole blob per entry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from graviton.backends.memory.blob_sources import read_source
from graviton.core.attributes import CHUNK_COUNT, SIZE, BinaryAttributes
from graviton.core.clock import Clock, SystemClock
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.core.locators import Locator
from graviton.core.names import check_name
from graviton.core.policies import BlobLayout, BlobWritePlan, Compression, Encryption, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import (
    DigestMismatch,
    IntegrityError,
    InvalidInput,
    NotFound,
    RangeNotSatisfiable,
    Retry,
    Unavailable,
    Unsupported,
)
from graviton.ports.blobs import BlobReader, BlobSource, BlobStat, BlobStore, BlobWriteResult, IngestStats, check_limit
from graviton.ports.capabilities import Capabilities

__all__ = ["InMemoryBlobStore", "StoredBlob"]

PIECE_BYTES = 1024 * 1024
"""Bytes of the pieces that a reader yields: several for a large blob, as elsewhere."""


class StoredBlob(NamedTuple):
    """What is kept of one blob."""

    data: bytes
    stat: BlobStat
    holders: frozenset[str]


class InMemoryBlobStore(BlobStore):
    """Blobs of this process, gone with the object; for the tasks of one event loop.

    It does not cut: a blob counts as ceil(size / 16 MiB) blocks, and its chunker is empty.
    """

    capabilities = Capabilities(conditional_put=True)

    def __init__(
        self,
        *,
        hash: HashAlgo = HashAlgo.SHA256,
        bucket: str = "default",
        clock: Clock | None = None,
    ) -> None:
        self._hash = hash
        self._bucket = bucket
        self._clock = clock or SystemClock()
        self._closed = False
        self.blobs: dict[tuple[str, BlobKey], StoredBlob] = {}
        """What lies under each domain and key; tests spoil it on purpose."""

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        self._check_open()
        plan = plan or BlobWritePlan()
        _check_policy(plan.policy or StorePolicy())
        started = self._clock.monotonic()
        data = await read_source(source)  # whole, before anything changes
        self._check_open()
        _check_claims(plan.attributes, data)
        algo = plan.hash or self._hash
        key = BlobKey(algo.digest(data), len(data))
        blocks = -(-len(data) // MAX_BLOCK_BYTES)
        attributes = plan.attributes.confirm({SIZE: len(data), CHUNK_COUNT: blocks}, at_ns=self._clock.now_ns())
        before = self.blobs.get((plan.domain, key))
        stat = self._add(plan, before, BlobStat(key, blocks, "", self._clock.now_ns(), attributes), data)
        fresh = 0 if before else blocks
        seconds = self._clock.monotonic() - started
        stats = IngestStats(len(data), blocks, fresh, len(data) if fresh else 0, 0, seconds)
        locator = plan.locator_hint or Locator("memory", self._bucket, key.hex)
        return BlobWriteResult(key, locator, stat.attributes, stats, "", before is None, blocks)

    def _add(self, plan: BlobWritePlan, before: StoredBlob | None, stat: BlobStat, data: bytes) -> BlobStat:
        holders = frozenset((plan.holder,))
        if before is not None:
            data, holders = before.data, before.holders | holders
            stat = before.stat._replace(attributes=before.stat.attributes.merge(stat.attributes))
        self.blobs[plan.domain, stat.key] = StoredBlob(data, stat, holders)
        return stat

    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        self._check_open()
        found = self.blobs.get((check_name(domain), key))
        if found is None:
            raise NotFound(f"there is no blob {key.text}", operation="blobs.get", subject=key.text)
        wanted = Span(0, key.size) if span is None else span
        if wanted.end > key.size:
            raise RangeNotSatisfiable(
                f"{wanted} is not within the {key.size} bytes of the blob", operation="blobs.get", subject=key.text
            )
        return _Reader(found, wanted)

    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        self._check_open()
        found = self.blobs.get((check_name(domain), key))
        return None if found is None else found.stat

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        self._check_open()
        found = self.blobs.get((check_name(domain), key))
        if found is None or check_name(holder, "holder") not in found.holders:
            return False
        left = found.holders - {holder}
        if left:
            self.blobs[domain, key] = found._replace(holders=left)
        else:
            del self.blobs[domain, key]
        return True

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        self._check_open()
        _check_prefix(prefix)
        check_limit(limit)
        keys = sorted(key for of, key in self.blobs if of == check_name(domain) and key.text.startswith(prefix))
        for key in [key for key in keys if after is None or after < key][:limit]:
            found = self.blobs.get((domain, key))  # may have been deleted since the list was begun
            if found is not None:
                yield found.stat

    async def aclose(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("this blob store is closed", operation="blobs", retry=Retry.PERMANENT)


class _Reader(BlobReader):
    """Pieces of a blob, whose bytes are verified once, before the first leaves."""

    def __init__(self, blob: StoredBlob, span: Span) -> None:
        self.key = blob.stat.key
        self.span = span
        self.attributes = blob.stat.attributes
        self._data = blob.data
        self._position = span.start
        self._verified = False

    def __aiter__(self) -> AsyncIterator[memoryview | bytes]:
        return self

    async def __anext__(self) -> memoryview | bytes:
        if not self._verified:
            self._verify()
        if self._position >= self.span.end:
            raise StopAsyncIteration
        start, self._position = self._position, min(self._position + PIECE_BYTES, self.span.end)
        return self._data[start : self._position]

    def _verify(self) -> None:
        if len(self._data) != self.key.size or self.key.algo.digest(self._data) != self.key.digest:
            raise IntegrityError(
                f"what is stored as blob {self.key.text} is something else (bytes 0-{self.key.size - 1})",
                operation="blobs.get",
                subject=self.key.text,
            )
        self._verified = True

    async def aclose(self) -> None:
        self._position = self.span.end


def _check_claims(attributes: BinaryAttributes, data: bytes) -> None:
    size = attributes.advertised.get(SIZE)
    if size is not None and size.value != len(data):
        raise DigestMismatch(f"{len(data)} bytes arrived, not the {size.value} announced", operation="put")
    for algo, announced in attributes.digests.items():
        digest = algo.digest(data)
        if digest != announced:
            raise DigestMismatch(f"the bytes have digest {digest}, not the {announced} announced", operation="put")


def _check_policy(policy: StorePolicy) -> None:
    plain = (BlobLayout.MONOLITHIC, Compression.NONE, Encryption.NONE)
    if (policy.layout, policy.compression, policy.encryption) != plain:
        raise Unsupported("the memory store neither packs, compresses nor encrypts", operation="put")


def _check_prefix(prefix: str) -> None:
    """Raises InvalidInput unless some key text begins with `prefix`: fills it up to a whole one and parses that."""
    name, *rest = prefix.split(":", 1)
    if not rest:
        filled = any(algo.value.startswith(name) for algo in HashAlgo)
    else:
        digits, *size = rest[0].split(":", 1)
        text = f"{name}:{digits if size else digits.ljust(64, '0')}:{size[0] if size and size[0] else '0'}"
        try:
            BlobKey.parse(text)
            filled = True
        except InvalidInput:
            filled = False
    if not filled:
        raise InvalidInput(f"no key text begins with {prefix[:120]!r}", subject=prefix[:120])
