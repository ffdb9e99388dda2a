"""Policies are values that drive behaviour; a store reads them and does, or refuses with Unsupported, what they say.

Nothing here knows what is implemented. `None` in a plan means: the store's own default.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final

from graviton.core._frozen import Frozen, set_field
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


class Compression(Frozen):
    """How stored bytes are compressed; keys are always those of the plain bytes."""

    __slots__ = ("level", "method")
    __match_args__ = ("method", "level")
    method: CompressionMethod
    level: int
    NONE: ClassVar[Compression]

    def __init__(self, method: CompressionMethod = CompressionMethod.NONE, level: int = 0) -> None:
        """`level` is for zstd: -1 to 22 as in the ancestor, 0 being zstd's own default (3). Raises InvalidInput."""
        if not -1 <= level <= 22:
            raise InvalidInput(f"a zstd level is -1 to 22, not {level}")
        if method is CompressionMethod.NONE and level != 0:
            raise InvalidInput(f"no compression has no level, but {level} was given")
        set_field(self, "method", method)
        set_field(self, "level", level)

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


class Encryption(Frozen):
    """How stored bytes are encrypted: by no cipher, or by `mode` with the key that `key_id` names (never the key)."""

    __slots__ = ("key_id", "mode")
    __match_args__ = ("mode", "key_id")
    mode: AeadMode | None
    key_id: str
    NONE: ClassVar[Encryption]

    def __init__(self, mode: AeadMode | None = None, key_id: str = "") -> None:
        """`key_id`: `[A-Za-z0-9:_-]{4,128}`, as in the ancestor; empty without a mode. Raises InvalidInput."""
        if mode is None:
            if key_id:
                raise InvalidInput("a key id was given without an encryption mode")
        elif not 4 <= len(key_id) <= 128 or not _KEY_ID_CHARS.issuperset(key_id):
            raise InvalidInput(f"a key id has 4 to 128 of A-Z a-z 0-9 : _ -, unlike {key_id[:130]!r}")
        set_field(self, "mode", mode)
        set_field(self, "key_id", key_id)


Encryption.NONE = Encryption()


class StorePolicy(Frozen):
    """How a store keeps blobs."""

    __slots__ = ("compression", "encryption", "layout", "min_part_size", "replication")
    __match_args__ = ("layout", "min_part_size", "replication", "compression", "encryption")
    layout: BlobLayout
    min_part_size: int
    """Bytes of the smallest part of a multipart upload, MIN_PART_BYTES to MAX_PART_BYTES; a large object gets larger
    parts, because S3 takes at most 10,000."""
    replication: ReplicationMode
    compression: Compression
    encryption: Encryption

    def __init__(
        self,
        layout: BlobLayout = BlobLayout.MONOLITHIC,
        min_part_size: int = MIN_PART_BYTES,
        replication: ReplicationMode = ReplicationMode.SYNC_ALL,
        compression: Compression = Compression.NONE,
        encryption: Encryption = Encryption.NONE,
    ) -> None:
        """Raises InvalidInput if the part size is out of bounds."""
        if not MIN_PART_BYTES <= min_part_size <= MAX_PART_BYTES:
            raise InvalidInput(f"min_part_size is {MIN_PART_BYTES} to {MAX_PART_BYTES} bytes, not {min_part_size}")
        set_field(self, "layout", layout)
        set_field(self, "min_part_size", min_part_size)
        set_field(self, "replication", replication)
        set_field(self, "compression", compression)
        set_field(self, "encryption", encryption)


class BlobWritePlan(Frozen):
    """How one blob is to be put. The default plan leaves everything to the store."""

    __slots__ = ("attributes", "chunker", "domain", "hash", "holder", "locator_hint", "policy")
    __match_args__ = ("attributes", "policy", "chunker", "locator_hint", "hash", "domain", "holder")
    attributes: BinaryAttributes
    """What the client advertises; a plan that confirms is refused: only the runtime confirms."""
    policy: StorePolicy | None
    chunker: ChunkerSpec | None
    locator_hint: Locator | None
    """Where the caller wants the blob to be said to live; a hint always wins over the store's own locator."""
    hash: HashAlgo | None
    domain: str
    """Dedup and key domain (names.py)."""
    holder: str
    """Who keeps the blob (names.py)."""

    def __init__(
        self,
        attributes: BinaryAttributes = BinaryAttributes.EMPTY,
        policy: StorePolicy | None = None,
        chunker: ChunkerSpec | None = None,
        locator_hint: Locator | None = None,
        hash: HashAlgo | None = None,
        domain: str = "",
        holder: str = "",
    ) -> None:
        """Raises InvalidInput for a bad name and for attributes that are confirmed or cannot all be true."""
        check_name(domain, "domain")
        check_name(holder, "holder")
        if attributes.confirmed:
            names = ", ".join(sorted(attributes.confirmed))
            raise InvalidInput(f"a plan may only advertise attributes, but it confirms {names}")
        attributes.validate()
        set_field(self, "attributes", attributes)
        set_field(self, "policy", policy)
        set_field(self, "chunker", chunker)
        set_field(self, "locator_hint", locator_hint)
        set_field(self, "hash", hash)
        set_field(self, "domain", domain)
        set_field(self, "holder", holder)
