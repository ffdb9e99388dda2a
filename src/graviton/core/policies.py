"""Policies are values that drive behaviour; a store reads them and does, or refuses with Unsupported, what they say.

Nothing here knows what is implemented. `None` in a plan means: the store's own default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.locators import Locator
from graviton.core.names import check_name
from graviton.errors import InvalidInput

if TYPE_CHECKING:
    from graviton.core.chunking.spec import ChunkerSpec

__all__ = [
    "MAX_PART_BYTES",
    "MIN_PART_BYTES",
    "AeadMode",
    "BlobLayout",
    "BlobWritePlan",
    "Compression",
    "CompressionMethod",
    "Encryption",
    "ReplicationMode",
    "StorePolicy",
]

MIN_PART_BYTES: Final = 5 * 1024 * 1024
"""5 MiB: S3 refuses smaller parts of a multipart upload, except the last.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

MAX_PART_BYTES: Final = 5 * 1024**3
"""5 GiB: S3 refuses larger parts; same page."""


class BlobLayout(Enum):
    """How the blocks of a blob become objects."""

    MONOLITHIC = "monolithic"
    """One object per block, holding exactly its bytes."""
    FRAMED = "framed"
    """Blocks packed into framed objects."""


class ReplicationMode(Enum):
    """When a put is acknowledged."""

    SYNC_ALL = "sync_all"
    """When every replica has the bytes."""
    SYNC_QUORUM = "sync_quorum"
    """When more than half of the replicas have them."""
    ASYNC_REPLICAS = "async_replicas"
    """When the first has them; the others follow."""


class CompressionMethod(Enum):
    """A compression method."""

    NONE = "none"
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Compression:
    """How stored bytes are compressed; keys are always those of the plain bytes."""

    method: CompressionMethod = CompressionMethod.NONE
    level: int = 0
    """zstd only: -1 to 22, the range of the ancestor; 0 is zstd's own default (3)."""

    NONE: ClassVar[Compression]

    def __post_init__(self) -> None:
        if not -1 <= self.level <= 22:
            raise InvalidInput(f"a zstd level is -1 to 22, not {self.level}")
        if self.method is CompressionMethod.NONE and self.level != 0:
            raise InvalidInput(f"no compression has no level, but {self.level} was given")

    @classmethod
    def zstd(cls, level: int = 0) -> Compression:
        """Zstandard at `level`. Raises InvalidInput."""
        return cls(CompressionMethod.ZSTD, level)


Compression.NONE = Compression()


class AeadMode(Enum):
    """An authenticated cipher."""

    XCHACHA20_POLY1305 = "xchacha20-poly1305"
    AES_256_GCM = "aes-256-gcm"


_KEY_ID_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_-")


@dataclass(frozen=True, slots=True)
class Encryption:
    """How stored bytes are encrypted: by no cipher, or by `mode` with the key that `key_id` names (never the key)."""

    mode: AeadMode | None = None
    key_id: str = ""
    """`[A-Za-z0-9:_-]{4,128}`, as in the ancestor; empty without a mode."""

    NONE: ClassVar[Encryption]

    def __post_init__(self) -> None:
        if self.mode is None:
            if self.key_id:
                raise InvalidInput("a key id was given without an encryption mode")
        elif not 4 <= len(self.key_id) <= 128 or not _KEY_ID_CHARS.issuperset(self.key_id):
            raise InvalidInput(f"a key id has 4 to 128 of A-Z a-z 0-9 : _ -, unlike {self.key_id[:130]!r}")


Encryption.NONE = Encryption()


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """How a store keeps blobs."""

    layout: BlobLayout = BlobLayout.MONOLITHIC
    min_part_size: int = MIN_PART_BYTES
    """Bytes of the smallest part of a multipart upload, MIN_PART_BYTES to MAX_PART_BYTES; a large object gets larger
    parts, because S3 takes at most 10,000."""
    replication: ReplicationMode = ReplicationMode.SYNC_ALL
    compression: Compression = Compression.NONE
    encryption: Encryption = Encryption.NONE

    def __post_init__(self) -> None:
        if not MIN_PART_BYTES <= self.min_part_size <= MAX_PART_BYTES:
            raise InvalidInput(f"min_part_size is {MIN_PART_BYTES} to {MAX_PART_BYTES} bytes, not {self.min_part_size}")


@dataclass(frozen=True, slots=True)
class BlobWritePlan:
    """How one blob is to be put. The default plan leaves everything to the store."""

    attributes: BinaryAttributes = BinaryAttributes.EMPTY
    """What the client advertises; what is confirmed here is refused: only the runtime confirms."""
    policy: StorePolicy | None = None
    chunker: ChunkerSpec | None = None
    locator_hint: Locator | None = None
    """Where the caller wants the blob to be said to live; a hint always wins over the store's own locator."""
    hash: HashAlgo | None = None
    domain: str = ""
    """Dedup and key domain (names.py)."""
    holder: str = ""
    """Who keeps the blob (names.py)."""

    def __post_init__(self) -> None:
        check_name(self.domain, "domain")
        check_name(self.holder, "holder")
        if self.attributes.confirmed:
            names = ", ".join(sorted(self.attributes.confirmed))
            raise InvalidInput(f"a plan may only advertise attributes, but it confirms {names}")
        self.attributes.validate()
