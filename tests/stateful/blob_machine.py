"""A blob store beside a dict: whatever Hypothesis does to both, they agree.

TestCasBesideADict = blob_machine(lambda folder: open_store(folder), reopens=True)
"""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest import TestCase

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from graviton.core.attributes import SIZE, BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import DigestMismatch, NotFound, RangeNotSatisfiable
from graviton.ports.blobs import BlobSource, BlobStore
from graviton.testing.conformance.blob_values import noise

_T = TypeVar("_T")

DOMAINS = st.sampled_from(["", "d"])
HOLDERS = st.sampled_from(["", "h"])
ALGOS = st.sampled_from(HashAlgo)
_NOISE = noise(20_000)
CONTENTS = (
    st.binary(max_size=8)
    | st.builds(lambda start, end: _NOISE[start:end], st.integers(0, 20_000), st.integers(0, 20_000))
    | st.builds(lambda at, put: _NOISE[:at] + put + _NOISE[at:], st.integers(0, 20_000), st.binary(max_size=5))
)
"""Tiny blobs, pieces of one text, and that text with an insertion: much is shared between blobs."""

KINDS = ["bytes", "bytearray", "pieces", "async", "file", "path"]


class Model(NamedTuple):
    """One visible blob."""

    data: bytes
    holders: frozenset[str]


class Planned(Exception):  # noqa: N818 - no error of ours
    """What a source raises."""


class BlobMachine(RuleBasedStateMachine):
    """Every operation of the port on both sides."""

    make: Callable[[Path], BlobStore]
    reopens: bool
    keys: Bundle[BlobKey] = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="graviton-machine-"))
        self.loop = asyncio.Runner()
        self.model: dict[tuple[str, BlobKey], Model] = {}

    def run_(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run(call)

    async def opened(self) -> BlobStore:
        return type(self).make(self.folder)

    @initialize()
    def open(self) -> None:
        self.store = self.run_(self.opened())

    def source(self, data: bytes, kind: str, error: Exception | None = None) -> BlobSource:
        def pieces() -> Iterator[bytes]:
            for start in range(0, len(data), 3_000):
                yield data[start : start + 3_000]
            if error is not None:
                raise error

        async def slowly() -> AsyncIterator[bytes]:
            for piece in pieces():
                await asyncio.sleep(0)
                yield piece

        if kind == "path":
            path = self.folder / "source"
            path.write_bytes(data)
            return path
        made: dict[str, Callable[[], BlobSource]] = {
            "bytes": lambda: data,
            "bytearray": lambda: bytearray(data),
            "pieces": pieces,
            "async": slowly,
            "file": lambda: io.BytesIO(data),
        }
        return made[kind]()

    @rule(target=keys, data=CONTENTS, kind=st.sampled_from(KINDS), algo=ALGOS, domain=DOMAINS, holder=HOLDERS)
    def put(self, data: bytes, kind: str, algo: HashAlgo, domain: str, holder: str) -> BlobKey:
        plan = BlobWritePlan(hash=algo, domain=domain, holder=holder)
        result = self.run_(self.store.put(self.source(data, kind), plan))
        assert result.key == BlobKey(algo.digest(data), len(data))
        before = self.model.get((domain, result.key))
        assert result.created is (before is None)
        assert result.stats.size == len(data)
        holders = before.holders if before else frozenset()
        self.model[domain, result.key] = Model(data, holders | {holder})
        return result.key

    @rule(data=CONTENTS, kind=st.sampled_from(["pieces", "async"]), domain=DOMAINS)
    def failing_put(self, data: bytes, kind: str, domain: str) -> None:
        try:
            self.run_(self.store.put(self.source(data, kind, Planned()), BlobWritePlan(domain=domain)))
        except Planned:
            return
        raise AssertionError("the error of the source did not come back")

    @rule(data=CONTENTS, off=st.integers(1, 9), domain=DOMAINS)
    def put_with_a_wrong_claim(self, data: bytes, off: int, domain: str) -> None:
        claim = BinaryAttributes.EMPTY.advertise({SIZE: len(data) + off}, at_ns=1)
        try:
            self.run_(self.store.put(data, BlobWritePlan(attributes=claim, domain=domain)))
        except DigestMismatch:
            return
        raise AssertionError("a wrong claim was accepted")

    @rule(key=keys, domain=DOMAINS, start=st.integers(0, 25_000), length=st.integers(0, 25_000))
    def get_range(self, key: BlobKey, domain: str, start: int, length: int) -> None:
        blob = self.model.get((domain, key))
        span = Span(start, start + length)
        try:
            found = self.run_(self._read(key, span, domain))
        except NotFound:
            assert blob is None
        except RangeNotSatisfiable:
            assert blob is not None
            assert span.end > key.size
        else:
            assert blob is not None
            assert span.end <= key.size
            assert found == blob.data[span.start : span.end]

    async def _read(self, key: BlobKey, span: Span | None, domain: str) -> bytes:
        async with await self.store.get(key, span, domain) as reader:
            return await reader.read()

    @rule(key=keys, domain=DOMAINS)
    def stat(self, key: BlobKey, domain: str) -> None:
        stat = self.run_(self.store.stat(key, domain))
        assert (stat is not None) is ((domain, key) in self.model)
        assert stat is None or (stat.key, stat.attributes.size) == (key, key.size)

    @rule(key=keys, domain=DOMAINS, holder=HOLDERS)
    def delete(self, key: BlobKey, domain: str, holder: str) -> None:
        blob = self.model.get((domain, key))
        held = blob is not None and holder in blob.holders
        assert self.run_(self.store.delete(key, holder, domain)) is held
        if blob is not None and held:
            left = blob.holders - {holder}
            if left:
                self.model[domain, key] = blob._replace(holders=left)
            else:
                del self.model[domain, key]

    @rule(key=keys, domain=DOMAINS, chars=st.integers(0, 80), follow=st.booleans(), limit=st.none() | st.integers(0, 4))
    def list_some(self, key: BlobKey, domain: str, chars: int, follow: bool, limit: int | None) -> None:
        prefix, after = key.text[:chars], key if follow else None

        async def found() -> list[str]:
            return [stat.key.text async for stat in self.store.list(prefix, after, limit, domain)]

        texts = sorted(one.text for of, one in self.model if of == domain)
        expected = [text for text in texts if text.startswith(prefix) and (after is None or text > after.text)]
        assert self.run_(found()) == expected[:limit]

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.run_(self.store.aclose())
        self.store = self.run_(self.opened())

    @invariant()
    def every_blob_reads_back(self) -> None:
        if not hasattr(self, "store"):
            return
        for (domain, key), blob in self.model.items():
            assert self.run_(self._read(key, None, domain)) == blob.data

        async def listed(domain: str) -> list[str]:
            return [stat.key.text async for stat in self.store.list(domain=domain)]

        for domain in ("", "d"):
            assert self.run_(listed(domain)) == sorted(key.text for of, key in self.model if of == domain)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run_(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


def blob_machine(make: Callable[[Path], BlobStore], *, reopens: bool, steps: int = 25) -> type[TestCase]:
    """A test case that runs the machine on stores of `make(folder)`, which opens the same place for the same folder; it
    is called while the machine's event loop runs."""
    machine = type("Machine", (BlobMachine,), {"make": staticmethod(make), "reopens": reopens})
    case: type[TestCase] = machine.TestCase
    case.settings = settings(stateful_step_count=steps)  # type: ignore[attr-defined]
    return case
