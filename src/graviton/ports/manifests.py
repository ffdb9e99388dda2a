"""`BlobManifestRepo`: blobs and their manifests.

Laws:
- A blob is visible exactly while it points to a committed owner. Everything before `commit` is invisible.
- `add_pages` writes pages of an open session in unsealed form (the blob's key is not known yet), in order.
- The session has claimed every block of the pages that it adds or commits. A backend that may lose claims, pages or
  seals while their session lives on (a server that crashes) raises Conflict for one that misses some: a blob that is
  visible has all of them.
- `commit` makes blobs visible, all of one call in one durable transaction. For each it takes the last pages, confirms
  the given claims, seals the pages, and then needs the session to be open and fully confirmed, with all pages that come
  before those of the call, else Conflict. If the blob exists already (in this domain) its manifest stays, attributes
  and holder are merged into it, and the session becomes dropped: the result says `created=False`. But a manifest that
  cannot be relied on, because a page of it is damaged or a block of it is not `stored` after this call has confirmed
  its own, gives way to the new one, which takes over attributes and holders; its owner becomes dropped. Several commits
  of one blob in one call are as if one after the other.
- `get`, `pages` and `delete` of an unknown or deleted blob: NotFound, NotFound, False; never an empty stream. `find`
  is `get` of many keys at one moment, in their order, repeats included: None stands for a blob that is not visible.
- `pages(blob, span)` yields, in order, exactly the pages that overlap `span` (None: all of them; none for an empty
  blob). Every page is checked against its seal and its place: IntegrityError names the blob and the byte range. With
  `span=None` the digest over all page digests is checked too.
- `delete` takes one holder away; the blob disappears with the last one, durably, by a change of its owner alone. It
  says whether that holder held it. `undelete` brings the blob back for the holder that was last, until its references
  are taken away.
- `list` yields visible blobs whose key text begins with `prefix`, after the key `after`, in the order of key bytes
  (algorithm tag, digest, size), which is the order of key texts.
  A row that cannot be read costs nobody the others: `list_readable` passes it over and tells its key, `list` raises.
- Totals agree with the visible blobs and stored blocks after every transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound
from graviton.ports.capabilities import Capabilities

__all__ = [
    "BlobCommit",
    "BlobManifestRepo",
    "BlobRecord",
    "CommitResult",
    "ListedBlobs",
    "StoreTotals",
    "no_such_blob",
    "unlistable",
]


class BlobCommit(NamedTuple):
    """One blob to make visible."""

    session: int
    key: BlobKey
    pages: Sequence[ManifestPage]
    """The pages not yet added, in order; at most `MAX_COMMIT_PAGES`."""
    confirm: Sequence[BlockKey]
    """Claims of the session whose blocks are durable by now."""
    attributes: BinaryAttributes
    chunker: str
    """Canonical text of the chunker spec."""
    holder: str = ""


MAX_COMMIT_PAGES = 4
"""Pages one commit may bring, 588 KB: what is more goes by `add_pages` first, so that a commit stays short."""


class CommitResult(NamedTuple):
    """The outcome of one commit."""

    record: BlobRecord
    created: bool
    """False if the blob was there already."""


class BlobRecord(NamedTuple):
    """A visible blob."""

    key: BlobKey
    owner: int
    page_count: int
    block_count: int
    pages_digest: bytes
    """32 bytes: the digest over all page digests."""
    chunker: str
    created_at_ns: int
    """UTC nanoseconds of the commit that made it visible."""
    attributes: BinaryAttributes


class ListedBlobs(NamedTuple):
    """Visible blobs, and what cannot be told."""

    records: list[BlobRecord]
    unreadable: list[str]
    """Key texts of blobs whose rows are damaged, as far as their keys are keys."""

    def check(self) -> None:
        """Raise IntegrityError if there is anything unreadable."""
        if self.unreadable:
            raise unlistable(len(self.unreadable), self.unreadable[0])


def unlistable(count: int, first: str) -> IntegrityError:
    """The error for `count` blobs that could not be listed, of which `first` is one."""
    others = f" and {count - 1} more" if count > 1 else ""
    return IntegrityError(
        f"the metadata of blob {first}{others} cannot be read; all others are listed",
        operation="list",
        subject=first,
        hint="`graviton verify --all` names every damage, and docs/guides/verify-and-repair.md what helps.",
    )


def no_such_blob(key: BlobKey) -> NotFound:
    """The error for a blob that is not visible."""
    return NotFound(f"there is no blob {key}", operation="get", subject=key.text, hint="`graviton ls` lists the blobs.")


class StoreTotals(NamedTuple):
    """Sums over a domain, kept with every commit; `verify --all` recomputes them."""

    blobs: int = 0
    logical_bytes: int = 0
    """Sum of the sizes of the visible blobs."""
    blocks: int = 0
    """Blocks whose bytes are stored, whether referenced or not (garbage collection takes the others away)."""
    stored_bytes: int = 0
    """Sum of the sizes of those blocks."""


class BlobManifestRepo(ABC):
    """Blobs, pages and totals; see the module docstring for the laws."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def add_pages(self, session: int, pages: Sequence[ManifestPage], confirm: Sequence[BlockKey] = ()) -> None:
        """Add pages to an open session and confirm claims, in one transaction. Raises Conflict."""

    @abstractmethod
    async def commit(self, commits: Sequence[BlobCommit]) -> list[CommitResult]:
        """Make blobs visible. Raises Conflict, InvalidInput, StorageFull, Unavailable."""

    @abstractmethod
    async def get(self, key: BlobKey, domain: str = "") -> BlobRecord:
        """The record of a visible blob. Raises NotFound."""

    async def find(self, keys: Sequence[BlobKey], domain: str = "") -> list[BlobRecord | None]:
        """The record of each visible blob, None for others. Raises IntegrityError if one cannot be read: `get` of each
        tells which. This one asks one after the other; who can overrides it."""
        records: list[BlobRecord | None] = []
        for key in keys:
            try:
                records.append(await self.get(key, domain))
            except NotFound:
                records.append(None)
        return records

    @abstractmethod
    def pages(self, record: BlobRecord, span: Span | None = None, domain: str = "") -> AsyncIterator[ManifestPage]:
        """Verified pages in order. Raises NotFound when the blob is gone meanwhile, IntegrityError."""

    @abstractmethod
    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Take `holder` away; whether it held the blob."""

    @abstractmethod
    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Bring a deleted blob back for `holder`; False if there is nothing left to bring back."""

    @abstractmethod
    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = 1000, domain: str = ""
    ) -> list[BlobRecord]:
        """Up to `limit` visible blobs. Raises InvalidInput if `prefix` cannot begin a key text, IntegrityError."""

    async def list_readable(
        self, prefix: str = "", after: BlobKey | None = None, limit: int = 1000, domain: str = ""
    ) -> ListedBlobs:
        """As `list`, past damaged rows where that is possible: fewer than `limit` records only at the end."""
        return ListedBlobs(await self.list(prefix, after, limit, domain), [])

    @abstractmethod
    async def totals(self, domain: str = "") -> StoreTotals:
        """The kept sums."""
