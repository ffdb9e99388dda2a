"""A page of a listing, filtered, for a bounded amount of looking through.

A filter that matches nothing would read the whole store for one request, and blobs may have so many attributes that a
thousand of them are a hundred megabytes of JSON, during whose making nobody else is answered. So a page ends after so
many blobs looked at, so many characters, or so long, and says where to go on, also when nothing was found.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from graviton.core.clock import Clock
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobStat
from graviton.stores.cas import CasBlobStore

__all__ = ["Filter", "Found", "find"]

MAX_SCANNED: Final = 10_000
"""Blobs looked at for one page: some 100 ms."""

MAX_SECONDS: Final = 2.0
"""For metadata far away."""

MAX_CHARS: Final = 2 * 1024 * 1024
"""Of what there is to say about the blobs of a page, approximately: a thousand usual ones have a quarter of it. As JSON
it takes 20 ms of the loop."""

_BARE_CHARS: Final = 300
"""Of a blob without attributes: id, time, names of members."""

_BATCH: Final = 250
"""Blobs fetched at once, each with attributes of up to half a megabyte."""


class Filter(NamedTuple):
    """What blobs must be like; what is None, or empty, leaves none out."""

    min_size: int | None = None
    max_size: int | None = None
    created_after_ns: int | None = None
    created_before_ns: int | None = None
    mime: str = ""
    """A whole type, or the part before the slash with `/*`; capitals and parameters do not matter."""
    name: str = ""
    """Somewhere in the name; capitals do not matter."""

    def matches(self, stat: BlobStat) -> bool:
        """Whether a blob is like that."""
        if not (self.min_size or 0) <= stat.size:
            return False
        if self.max_size is not None and stat.size > self.max_size:
            return False
        if self.created_after_ns is not None and stat.created_at_ns <= self.created_after_ns:
            return False
        if self.created_before_ns is not None and stat.created_at_ns >= self.created_before_ns:
            return False
        if self.mime and not _has_type(stat.attributes.mime, self.mime):
            return False
        return self.name.casefold() in (stat.attributes.file_name or "").casefold()


def _has_type(mime: str | None, wanted: str) -> bool:
    kind = (mime or "").partition(";")[0].strip(" \t").lower()
    wanted = wanted.lower()
    return kind.startswith(wanted[:-1]) if wanted.endswith("/*") else kind == wanted


class Found(NamedTuple):
    """What a page holds."""

    stats: list[BlobStat]
    next: str | None
    """After which id the next one begins; None at the end."""
    unreadable: list[str]


async def find(
    cas: CasBlobStore,
    prefix: str,
    after: BlobKey | None,
    limit: int,
    wanted: Filter,
    clock: Clock,
    domain: str = "",
) -> Found:
    """Up to `limit` blobs that match, fewer if there is much to say about them. Raises InvalidInput for a prefix that
    no id has."""
    found: list[BlobStat] = []
    unreadable: list[str] = []
    began, scanned, chars = clock.monotonic(), 0, 0
    batch = min(limit, _BATCH) if wanted == Filter() else _BATCH
    while True:
        page = await cas.list_page(prefix, after, batch, domain)
        unreadable += page.unreadable
        for stat in page.stats:
            after = stat.key
            if wanted.matches(stat):
                found.append(stat)
                chars += _chars(stat)
                if len(found) == limit or chars >= MAX_CHARS:
                    break
        scanned += len(page.stats)
        at_end = len(page.stats) < batch and (not page.stats or after == page.stats[-1].key)
        if at_end:
            return Found(found, None, unreadable)
        is_full = len(found) == limit or chars >= MAX_CHARS
        if is_full or scanned >= MAX_SCANNED or clock.monotonic() - began >= MAX_SECONDS:
            return Found(found, None if after is None else after.text, unreadable)


def _chars(stat: BlobStat) -> int:
    """How much there is to say about a blob, roughly: each attribute is told twice."""
    stages = stat.attributes.advertised, stat.attributes.confirmed
    return _BARE_CHARS + sum(
        2 * (len(name) + len(str(stamped.value))) + _BARE_CHARS // 4
        for stage in stages
        for name, stamped in stage.items()
    )
