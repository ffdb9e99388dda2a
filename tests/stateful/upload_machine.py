"""Uploads beside the bytes they are of: whatever clients, crashes and other servers do, what was told is there.

TestUploads = upload_machine(lambda folder: open_store(folder))
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import TestCase

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from graviton.assembly.store import Store
from graviton.core.hashing import HashAlgo
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Conflict, DigestMismatch, GravitonError, LimitExceeded
from graviton.metadata.rows import CLAIMS, OWNERS, RANGE_HEADS, RANGES, OwnerRow
from graviton.metadata.upload_rows import UPLOAD_NAMESPACES
from graviton.ports.block_index import OwnerState
from graviton.services.uploads import (
    Checksum,
    ChecksumAlgo,
    Interrupted,
    UploadId,
    Uploads,
    UploadState,
    UploadStatus,
    UploadWishes,
)
from tests.support import some_bytes
from tests.upload_worlds import TINY, open_uploads, pieces, read

__all__ = ["upload_machine"]

_T = TypeVar("_T")

DATA = some_bytes(30_000, 77)
SIZES = st.sampled_from([1, 7, 511, 513, 1_000, 4_097]) | st.integers(1, 12_000)
OFFSETS = st.integers(0, len(DATA))


class UploadMachine(RuleBasedStateMachine):
    """One upload, two servers, and what is known of it."""

    make: Callable[[Path], Store]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="graviton-machine-"))
        self.loop = asyncio.Runner()
        self.held = RangeSet()
        self.is_over = False

    def run_(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run(call)

    @initialize(declares=st.booleans())
    def open(self, declares: bool) -> None:
        self.store = type(self).make(self.folder)
        self.servers = [self.run_(self.opened()) for _ in range(2)]
        upload = self.run_(self.servers[0].create(UploadWishes(len(DATA) if declares else None)))
        self.id, self.length = upload.id, upload.length

    async def opened(self) -> Uploads:
        uploads = await open_uploads(self.store, stale_seconds=0, sizes=TINY)
        uploads._closing_seconds = 0  # as a process dies
        return uploads

    @property
    def offset(self) -> int:
        gap = self.held.next_gap(0)
        assert gap is not None
        return gap.start

    def part(self, start: int, size: int) -> tuple[Span, bytes]:
        span = Span(start, min(start + size, len(DATA)))
        return span, DATA[span.start : span.end]

    def took(self, status: UploadStatus, *spans: Span) -> None:
        """The status that a call returned, of which these spans were new."""
        for span in spans:
            self.held = self.held.add(span)
        if status.state is UploadState.RECEIVING:
            assert (status.offset, status.received) == (self.offset, self.held.covered_length)
        else:
            assert self.offset == len(DATA) == self.length

    servers_ = st.integers(0, 1)

    @rule(server=servers_, size=SIZES, piece=st.sampled_from([100, 1_500, 40_000]), breaks=st.booleans())
    def append(self, server: int, size: int, piece: int, breaks: bool) -> None:
        span, data = self.part(self.offset, size)
        ahead = self.held.remove(Span(0, span.start)).bounds
        source = pieces(data, piece, Interrupted() if breaks else None)
        try:
            status = self.run_(self.servers[server].append(self.id, span.start, source))
        except Conflict:
            assert self.is_complete() or (ahead is not None and ahead.start < span.end)
            if not self.is_complete():
                assert ahead is not None
                self.held = self.held.add(Span(span.start, ahead.start))
            return
        self.took(status, span)

    @rule(server=servers_, offset=OFFSETS)
    def append_elsewhere(self, server: int, offset: int) -> None:
        if offset == self.offset:
            return
        try:
            self.run_(self.servers[server].append(self.id, offset, pieces(b"wrong bytes")))
        except Conflict:
            return
        raise AssertionError("bytes were taken at another offset")

    @rule(server=servers_, size=SIZES, is_right=st.booleans(), algo=st.sampled_from(ChecksumAlgo))
    def append_checked(self, server: int, size: int, is_right: bool, algo: ChecksumAlgo) -> None:
        from graviton.services.uploads.values import hasher

        span, data = self.part(self.offset, size)
        check = hasher(algo)
        check.update(data)
        sent = data if is_right else data[:-1] + bytes((data[-1] ^ 1,)) if data else b"x"
        ahead = self.held.remove(Span(0, span.start)).bounds
        source = pieces(sent)
        try:
            checksum = Checksum(algo, check.digest())
            status = self.run_(self.servers[server].append(self.id, span.start, source, checksum=checksum))
        except (DigestMismatch, LimitExceeded):
            assert not is_right or not data
            return
        except Conflict:
            assert self.is_complete() or (ahead is not None and ahead.start < span.end)
            if not self.is_complete() and ahead is not None:
                self.held = self.held.add(Span(span.start, ahead.start))
            return
        assert is_right or not data
        self.took(status, span)

    @rule(server=servers_, start=OFFSETS, size=SIZES)
    def put_part(self, server: int, start: int, size: int) -> None:
        span, data = self.part(start, size)
        try:
            status = self.run_(self.servers[server].put_part(self.id, span, pieces(data)))
        except Conflict:
            assert self.is_complete()
            return
        self.took(status, span)

    @precondition(lambda self: self.held)
    @rule(server=servers_, start=OFFSETS, size=SIZES, at=OFFSETS)
    def put_other_bytes(self, server: int, start: int, size: int, at: int) -> None:
        span, data = self.part(start, size)
        if not span.contains(at) or not self.held.contains(at):
            return
        wrong = bytearray(data)
        wrong[at - start] ^= 1
        try:
            self.run_(self.servers[server].put_part(self.id, span, pieces(bytes(wrong))))
        except Conflict:
            return
        raise AssertionError(f"byte {at} was held, and another one was taken")

    @rule(server=servers_, size=SIZES)
    def crash(self, server: int, size: int) -> None:
        """A server dies while bytes arrive; more of them may be there than anybody was told."""
        span, data = self.part(self.offset, size)
        self.run_(self._crash(server, span.start, data))
        self.servers[server] = self.run_(self.opened())
        status = self.run_(self.servers[server].status(self.id))
        missing = self.run_(self.servers[1 - server].missing(self.id))
        window = Span(0, len(DATA))
        there = RangeSet([window]) - missing
        assert not self.held - there, "what was told is gone"
        assert not (there - self.held) - RangeSet([span]), "more is there than ever came"
        self.held = there
        self.took(status)

    async def _crash(self, server: int, offset: int, data: bytes) -> None:
        came = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            async for piece in pieces(data):
                yield piece
            came.set()
            await asyncio.Event().wait()

        call = asyncio.ensure_future(self.servers[server].append(self.id, offset, source()))
        waiting = asyncio.ensure_future(came.wait())
        await asyncio.wait([call, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await self.servers[server].aclose()
        [outcome] = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(outcome, GravitonError), repr(outcome)

    @precondition(lambda self: self.length is None)
    @rule(server=servers_)
    def declare(self, server: int) -> None:
        status = self.run_(self.servers[server].declare_length(self.id, len(DATA)))
        self.length = len(DATA)
        self.took(status)

    @rule(server=servers_)
    def sweep(self, server: int) -> None:
        swept = self.run_(self.servers[server].sweep())
        assert (swept.expired, swept.orphans, swept.failed) == (0, 0, 0)

    @invariant()
    def all_tell_the_same(self) -> None:
        for server in self.servers:
            missing = self.run_(server.missing(self.id))
            assert not self.held & missing

    def is_complete(self) -> bool:
        return self.offset == len(DATA) and self.length is not None

    def teardown(self) -> None:
        try:
            if hasattr(self, "id"):
                self.run_(self._end(self.id))
                self.run_(self.store.aclose())
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)

    async def _end(self, id: UploadId) -> None:
        server = self.servers[0]
        while (status := await server.status(id)).offset < len(DATA):
            try:
                await server.append(id, status.offset, pieces(DATA[status.offset :]))
            except Conflict:
                continue
        await server.declare_length(id, len(DATA))
        done = await server.finish(id, 60)
        assert done.state is UploadState.DONE, done
        assert done.key is not None
        assert await read(self.store, done.key) == DATA
        assert done.key.digest == HashAlgo.BLAKE3.digest(DATA)
        assert await self.servers[1].terminate(id)
        swept = await server.sweep()
        assert (swept.expired, swept.failed) == (0, 0)
        for one in self.servers:
            await one.aclose()
        assert await self._left() == []

    async def _left(self) -> list[str]:
        kv = await self.store.metadata()
        names = (*UPLOAD_NAMESPACES, RANGES, RANGE_HEADS)
        found = [f"{name} {key.hex()}" for name in names async for key, _ in kv.scan(name)]
        place = self.store.sides.part_place
        assert place is not None
        parts = place()
        found += [stat.locator.text async for stat in parts.objects.list(parts.prefix)]
        await parts.objects.aclose()
        async for key, data in kv.scan(OWNERS):
            row = OwnerRow.decode(data)
            claims = row.first_claims or [one async for one in kv.scan(CLAIMS, key)]
            if row.state is OwnerState.OPEN and claims:
                found.append(f"open session {key.hex()}")
        return found


def upload_machine(make: Callable[[Path], Store], steps: int, examples: int | None = None) -> type[TestCase]:
    """A test case over the stores that `make` opens in a folder."""
    machine = type("Machine", (UploadMachine,), {"make": staticmethod(make)})
    case: type[TestCase] = machine.TestCase
    more = {} if examples is None else {"max_examples": examples}
    case.settings = settings(stateful_step_count=steps, **more)  # type: ignore[attr-defined, arg-type]
    return case
