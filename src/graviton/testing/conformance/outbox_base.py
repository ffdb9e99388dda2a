"""What all laws of `Outbox` work with: a store whose changes it tells, and everything that it has told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from graviton.ports.events import Event, EventKind
from graviton.ports.outbox import MAX_TRIM, READ_EVENTS, Outbox
from graviton.testing.conformance.metadata_values import Metadata, MetadataContract, Upload, block_keys

__all__ = ["COMMITTED", "DAMAGED", "DELETED", "LONG", "OutboxLaws", "Told", "everything", "facts", "some_uploads"]

COMMITTED, DELETED, DAMAGED = EventKind.BLOB_COMMITTED, EventKind.BLOB_DELETED, EventKind.BLOCK_DAMAGED

LONG = 60.0
"""Seconds after which something that must come is given up."""

Told = list[tuple[str, Event]]


def facts(told: Sequence[tuple[str, Event]]) -> list[tuple[EventKind, str]]:
    """Kind and subject of each."""
    return [(event.kind, event.subject) for _, event in told]


def some_uploads(count: int, stem: str = "") -> list[Upload]:
    """Blobs of one block, named by their number."""
    return [Upload.of(block_keys(1, f"{stem}{number}"), f"{stem}{number}") for number in range(count)]


async def everything(outbox: Outbox, after: str | None = None, limit: int = READ_EVENTS) -> Told:
    """All that an outbox has to tell now, from a position on."""
    found: Told = []
    while page := await outbox.read(found[-1][0] if found else after, limit):
        assert len(page) <= limit
        found += page
    return found


class OutboxLaws(MetadataContract):
    """Over the metadata ports whose changes an outbox tells."""

    def make_outbox(self, store: Any) -> Outbox:
        """The outbox of the open backend `store`."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no make_outbox")

    async def open_both(self) -> tuple[Metadata, Outbox]:
        """The ports over a backend that is closed when the law ends, and its outbox."""
        store = await self.open()
        return self.make_metadata(store), self.make_outbox(store)

    async def put(self, metadata: Metadata, *uploads: Upload) -> None:
        """One after the other, each a second after the one before."""
        for upload in uploads:
            self.clock.advance(1)
            await metadata.put(upload)

    async def trimmed(self, outbox: Outbox, before_ns: int, count: int, limit: int = MAX_TRIM) -> None:
        """Trim until so many are gone: somebody's transaction may keep them for a while."""
        done = 0
        async with asyncio.timeout(LONG):
            while done < count:
                done += (removed := await outbox.trim(before_ns, limit))
                assert removed <= limit
        assert done == count
