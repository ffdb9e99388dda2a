"""`AnyStore`: what `graviton.open` gives, whether the store is here or behind a URL.

Laws, beside those of `BlobStore`:
- `put_many` gives a result for each source, in their order, each when it is durable. What a source raises, or gives
  that cannot be put, is raised after everything before it was put.
- `totals` are the sums of a domain, which agree with `list`.
- `manifest` yields the blocks of a blob in order and without a gap; none for an empty one. Raises NotFound.
- `undelete` brings back the blob that `delete` has just taken away; False if it is there, or nothing is left of it.
- `quota_use` is None where nothing is limited, or the store does not tell.
- `required` raises NotFound where there is no store yet; nothing is made by looking. `prepare` makes it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import NamedTuple, Self

from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestEntry
from graviton.core.policies import BlobWritePlan
from graviton.ports.blobs import BlobStore, BlobWriteResult, SmallBlob
from graviton.ports.manifests import StoreTotals

__all__ = ["AnyStore", "QuotaUse"]


class QuotaUse(NamedTuple):
    """How much of a quota is used, by all holders and in all domains together."""

    used_bytes: int
    used_blobs: int
    reserved_bytes: int
    """By what is on its way in."""
    reserved_blobs: int
    limit_bytes: int | None = None
    """None for no limit."""
    limit_blobs: int | None = None
    holder_limit_bytes: int | None = None
    """Of each holder."""
    holder_limit_blobs: int | None = None


class AnyStore(BlobStore):
    """A store that somebody uses. As `async with`, or call `aclose`."""

    @abstractmethod
    def put_many(
        self, sources: Iterable[bytes | SmallBlob], plan: BlobWritePlan | None = None
    ) -> AsyncIterator[BlobWriteResult]:
        """Store many small blobs, several at a time. Iterate within `contextlib.aclosing` if you may leave early."""

    @abstractmethod
    async def totals(self, domain: str = "") -> StoreTotals:
        """Blobs, logical bytes, stored blocks and their bytes, at once; zeros if there is no store."""

    async def quota_use(self) -> QuotaUse | None:
        """How much of its quota is used."""
        return None

    @abstractmethod
    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """Bring a deleted blob back for `holder`; whether that was done. Raises StorageFull."""

    @abstractmethod
    def manifest(self, key: BlobKey, domain: str = "") -> AsyncIterator[ManifestEntry]:
        """The blocks of a blob: key and offset of each."""

    @abstractmethod
    async def required(self) -> BlobStore:
        """The store that does the work, opened. Raises NotFound if there is none, ConfigError, Unavailable."""

    @abstractmethod
    async def prepare(self) -> None:
        """Make the store if there is none: what stands in the way of a put is raised now. Raises ConfigError,
        PermissionDenied, Unavailable."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
