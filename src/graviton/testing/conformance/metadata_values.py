"""What the contracts of the two metadata ports share: keys without bytes, and the pair under test.

The metadata store never sees the bytes of a block, so these keys are hashes of their own names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage, paginate
from graviton.ports.block_index import BlockIndex, BlockRecord
from graviton.ports.manifests import BlobCommit, BlobManifestRepo, CommitResult
from graviton.testing.conformance.contract import Contract
from graviton.testing.fake_clock import FakeClock

__all__ = [
    "Metadata",
    "MetadataContract",
    "Upload",
    "blob_key",
    "block_key",
    "block_keys",
    "commit_of",
    "record_of",
    "store_blocks",
]

CHUNKER = "fixed:1048576"


def block_key(name: str, size: int = 100, algo: HashAlgo = HashAlgo.BLAKE3) -> BlockKey:
    """A block key of its own for every name."""
    return BlockKey(algo.digest(b"block " + name.encode()), size)


def block_keys(count: int, stem: str = "") -> list[BlockKey]:
    """Different keys of different sizes, in no order; another stem gives others."""
    return [block_key(f"{stem}{n}", 1 + n % 50) for n in range(count)]


def blob_key(blocks: Sequence[BlockKey], name: str = "", algo: HashAlgo = HashAlgo.BLAKE3) -> BlobKey:
    """A blob key for these blocks; another name gives another blob of the same blocks."""
    digest = algo.digest(b"blob " + name.encode() + b"".join(key.to_bytes() for key in blocks))
    return BlobKey(digest, sum(key.size for key in blocks))


class Upload(NamedTuple):
    """A blob to commit: its key and blocks."""

    key: BlobKey
    blocks: list[BlockKey]

    @classmethod
    def of(cls, blocks: list[BlockKey], name: str = "", algo: HashAlgo = HashAlgo.BLAKE3) -> Upload:
        """A blob of these blocks."""
        return cls(blob_key(blocks, name, algo), blocks)

    @property
    def pages(self) -> list[ManifestPage]:
        """All pages of its manifest."""
        return paginate(self.blocks)


def commit_of(
    session: int,
    upload: Upload,
    pages: Sequence[ManifestPage] | None = None,
    confirm: Sequence[BlockKey] | None = None,
    holder: str = "",
    attributes: BinaryAttributes = BinaryAttributes.EMPTY,
) -> BlobCommit:
    """A commit that brings everything itself, unless told otherwise."""
    return BlobCommit(
        session,
        upload.key,
        upload.pages if pages is None else pages,
        upload.blocks if confirm is None else confirm,
        attributes,
        CHUNKER,
        holder,
    )


@dataclass(frozen=True, slots=True)
class Metadata:
    """The pair under test, over one backend."""

    index: BlockIndex
    repo: BlobManifestRepo

    async def session(self, keys: Sequence[BlockKey], domain: str = "") -> int:
        """An open session that has claimed `keys`."""
        return (await self.index.open([keys], domain))[0].session

    async def put(
        self,
        upload: Upload,
        holder: str = "",
        domain: str = "",
        attributes: BinaryAttributes = BinaryAttributes.EMPTY,
    ) -> CommitResult:
        """A whole put: claim, confirm and commit."""
        session = await self.session(upload.blocks, domain)
        return (await self.repo.commit([commit_of(session, upload, holder=holder, attributes=attributes)]))[0]


class MetadataContract(Contract[Any]):
    """`make_store` opens the backend that both ports work on (a key-value store, a database); it is closed with its
    `aclose`. The subclass says its `capabilities`."""

    clock: FakeClock

    def make_metadata(self, store: Any) -> Metadata:
        """The two ports over the open backend `store`, with `self.clock` where they take a clock."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no make_metadata")

    async def set_up(self) -> None:
        self.clock = FakeClock()

    async def open_metadata(self) -> Metadata:
        """The pair over a backend that is closed when the law ends."""
        return self.make_metadata(await self.open())

    async def reopened(self) -> Metadata:
        """The pair, after the last backend opened was closed and its place opened again."""
        return self.make_metadata(await self.reopen(self._opened[-1]))


async def record_of(metadata: Metadata, key: BlockKey, domain: str = "") -> BlockRecord:
    """The record of a block, which must have one."""
    (record,) = await metadata.index.records([key], domain)
    assert record is not None
    return record


async def store_blocks(metadata: Metadata, *keys: BlockKey, domain: str = "") -> int:
    """Store blocks by a session that stays open; its number."""
    session = await metadata.session(list(keys), domain)
    await metadata.index.confirm(session, list(keys))
    return session
