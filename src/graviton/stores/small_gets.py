"""Gets of small blobs, gathered: those that wait at the same moment are looked up by one transaction, and read.

A get changes threads for the blob's record, for its manifest and for each block. A small blob nearly always is one
block, and that block has the digest and the size of the blob: its record, which says so, is all that is needed of the
metadata, and its bytes are verified against the blob's own key. One thread does it in place (concurrency/gathering.py).

Whatever is not as it should be is none of its business: it says so, and the get goes on the ordinary way, which looks
everywhere, marks damage and names it. docs/decisions/0052-small-gets.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import groupby

from graviton.concurrency.calls import Call, deliver
from graviton.concurrency.gathering import Gathering, Group
from graviton.constraints.budget import Lease
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestEntry
from graviton.errors import GravitonError
from graviton.ports.blocks import BlockStore
from graviton.ports.manifests import BlobManifestRepo, BlobRecord, no_such_blob
from graviton.stores.streaming import Fetched, FoundBlob

__all__ = ["MAX_SMALL_GET_BYTES", "SmallGets"]

MAX_SMALL_GET_BYTES = 256 * 1024
"""Larger blobs gain nothing: to read and hash them takes longer than the changes of threads."""

_GROUP = Group(calls=64, weight=1024 * 1024)
"""A millisecond or two of work: so long the first of a group waits for the last."""

_THREADS_AT_SLOW_DISKS = 4
"""As many reads at once as the ordinary way has."""


class _Get(Call[FoundBlob]):
    """One blob on its way. Without a result, the metadata could not be read."""

    __slots__ = ("domain", "key", "lease")

    def __init__(self, key: BlobKey, domain: str, lease: Lease) -> None:
        super().__init__()
        self.key = key
        self.domain = domain
        self.lease = lease
        """Held also if whoever waits is garbage."""


class SmallGets:
    """See the module docstring. Usable from several event loops; not after a fork."""

    def __init__(self, manifests: BlobManifestRepo, blocks: BlockStore) -> None:
        """Both run in place."""
        serve = partial(_serve, manifests, blocks)
        self._gathering: Gathering[_Get] = Gathering(
            serve, lambda get: get.key.size, _GROUP, "get", threads=_THREADS_AT_SLOW_DISKS
        )

    async def find(self, key: BlobKey, domain: str, lease: Lease) -> FoundBlob | None:
        """A visible blob, with its bytes if they lie where they should; None if the metadata are to be asked again.
        `lease` is for the bytes, and given back if there are none. Cancelled, it returns when nobody works on them.
        Raises NotFound, and Unavailable after the end and after a fork."""
        try:
            get = _Get(key, domain, lease)
            self._gathering.submit(get)
            found = await get.outcome()
        except (Exception, asyncio.CancelledError):
            lease.release()
            raise
        if found is None or found.all_of_it is None:
            lease.release()
        return found

    async def aclose(self) -> None:
        """Let the gets that were accepted finish and end the thread. Idempotent."""
        await self._gathering.aclose()


async def _serve(manifests: BlobManifestRepo, blocks: BlockStore, gets: Sequence[_Get]) -> None:
    for domain, some in groupby(gets, key=lambda get: get.domain):
        await _read(manifests, blocks, list(some), domain)


async def _read(manifests: BlobManifestRepo, blocks: BlockStore, gets: Sequence[_Get], domain: str) -> None:
    try:
        records = await manifests.find([get.key for get in gets], domain)
    except GravitonError:
        deliver(gets)  # each asks for itself, and is told what concerns it
        return
    for get, record in zip(gets, records, strict=True):
        if record is None:
            get.error = no_such_blob(get.key)
        elif not get.cancelled:
            get.result = await _found(blocks, record, get.lease)
    deliver(gets)


async def _found(blocks: BlockStore, record: BlobRecord, lease: Lease) -> FoundBlob:
    if record.block_count != 1:
        return FoundBlob(record)
    try:
        block = ManifestEntry(0, BlockKey(record.key.digest, record.key.size))
        return FoundBlob(record, Fetched(block, await blocks.get(block.key), lease))
    except GravitonError:
        return FoundBlob(record)
