"""Reading what uploads hold, from blocks and parts, in order and verified."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.constraints.budget import ByteBudget, Lease
from graviton.core.buffers import Buffer
from graviton.core.manifests import ManifestEntry, ManifestPage
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound
from graviton.metadata.upload_rows import PartRow
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.services.uploads import part_records, records
from graviton.services.uploads.parts import BytesLostError, PartStore, missing_part
from graviton.services.uploads.values import UploadId
from graviton.stores.block_access import BlockAccess

__all__ = ["HeldBytes"]

_WINDOW_BLOCKS = 4
"""Blocks fetched ahead: a pass over an upload is one of few, and shares the budget with readers of blobs."""


class _Where(NamedTuple):
    """What holds one byte."""

    domain: str
    page: ManifestPage | None
    part: PartRow | None


class HeldBytes:
    """What the uploads of one store hold."""

    def __init__(self, kv: KeyValueStore, parts: PartStore, access: BlockAccess, budget: ByteBudget) -> None:
        self._kv, self._parts, self._access, self._budget = kv, parts, access, budget

    async def read(self, id: UploadId, span: Span) -> AsyncGenerator[Buffer, None]:
        """The bytes of `span`, which must all be held; each piece is valid until the next one is asked for. What is
        cut meanwhile is read as blocks. Raises NotFound if the upload goes, BytesLostError."""
        at = span.start
        missing: bytes | None = None
        while at < span.end:
            where = await self._kv.read(partial(_find, id=id, offset=at))
            rest = Span(at, span.end)
            try:
                async with aclosing(self._pieces(id, where, rest)) as pieces:
                    async for piece in pieces:
                        at += len(piece)
                        yield piece
            except NotFound:
                part = where.part
                if part is None:
                    raise
                if missing == part.name:  # else it was cut, and its object removed, since we looked at the rows
                    raise missing_part(id, part) from None
                missing = part.name

    async def _pieces(self, id: UploadId, where: _Where, rest: Span) -> AsyncGenerator[Buffer, None]:
        if where.page is not None:
            async with aclosing(self._blocks(where.page, where.domain, rest)) as pieces:
                async for piece in pieces:
                    yield piece
        elif where.part is not None:
            span = Span(rest.start, min(rest.end, where.part.span.end))
            async with aclosing(self._parts.read(id, where.part, span)) as parts:
                async for piece in parts:
                    yield piece
        else:
            raise BytesLostError(f"upload {id} does not hold byte {rest.start}", operation="upload", subject=id)

    async def _blocks(self, page: ManifestPage, domain: str, rest: Span) -> AsyncGenerator[Buffer, None]:
        entries = [entry for entry in page if entry.end > rest.start and entry.offset < rest.end]
        async with aclosing(_in_order(entries, self._fetch, domain, self._budget)) as blocks:
            async for entry, data in blocks:
                yield memoryview(data)[max(0, rest.start - entry.offset) : max(0, rest.end - entry.offset)]

    async def _fetch(self, entry: ManifestEntry, domain: str) -> bytes:
        try:
            return await self._access.read(entry.key, domain)
        except IntegrityError as error:
            raise BytesLostError(error.message, operation="upload", subject=error.subject, hint=error.hint) from error


def _find(tx: ReadTransaction, id: UploadId, offset: int) -> _Where:
    row = records.load(tx, id)
    domain = row.wishes.domain
    if offset < row.cut_to:
        return _Where(domain, part_records.load_page(tx, id, offset), None)
    part = next(iter(part_records.parts_after(tx, id, offset, 1)), None)
    return _Where(domain, None, part if part is not None and part.span.start <= offset else None)


_Fetch = Callable[[ManifestEntry, str], Awaitable[bytes]]


class _Fetches:
    """Blocks on their way, each with its memory."""

    def __init__(self) -> None:
        self.window: deque[tuple[ManifestEntry, Lease, asyncio.Future[bytes]]] = deque()

    async def end(self) -> None:
        """Cancel what is left, and give its memory back when nothing works on it any more."""
        left = list(self.window)
        self.window.clear()
        for _, _, task in left:
            task.cancel()
        for _, lease, task in left:
            await until_done(task)
            lease.release()


async def _in_order(
    entries: Iterable[ManifestEntry], fetch: _Fetch, domain: str, budget: ByteBudget
) -> AsyncGenerator[tuple[ManifestEntry, bytes], None]:
    """The blocks of `entries`, some of them fetched ahead as memory allows."""
    left = deque(entries)
    fetches = _Fetches()
    try:
        while left or fetches.window:
            while left and len(fetches.window) < _WINDOW_BLOCKS:
                size = left[0].key.size
                lease = budget.try_lease(size, budget.for_prefetch) if fetches.window else await budget.lease(size)
                if lease is None:
                    break
                entry = left.popleft()
                fetches.window.append((entry, lease, asyncio.ensure_future(fetch(entry, domain))))
            entry, lease, task = fetches.window[0]
            data = await asyncio.shield(task)
            yield entry, data
            fetches.window.popleft()
            lease.release()
    finally:
        await finish_anyway(fetches.end())
