"""Keys of blobs and blocks: algorithm, digest and size, and their one text form.

`<algo>:<lowercase hex>:<decimal size>`, for example `blake3:af13…3262:0`. Parsing is strict, so text and key are one
to one; the only latitude is `sha-256` for `sha256` on input.
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar, TypeVar

from graviton.core.hashing import Digest, HashAlgo
from graviton.core.limits import MAX_BLOCK_BYTES, MAX_SIZE
from graviton.errors import InvalidInput

__all__ = ["BlobKey", "BlockKey", "Key"]

_K = TypeVar("_K", bound="Key")
_SIZE = struct.Struct(">Q")


class Key:
    """Common part of `BlobKey` and `BlockKey`; immutable, hashable, ordered as its binary form."""

    __slots__ = ("digest", "size")
    digest: Digest
    size: int

    _noun: ClassVar[str] = "key"
    _min_size: ClassVar[int] = 0
    _max_size: ClassVar[int] = MAX_SIZE

    def __init__(self, digest: Digest, size: int) -> None:
        """Raises InvalidInput if `size` (bytes) is out of the bounds of this kind of key."""
        if not self._min_size <= size <= self._max_size:
            raise InvalidInput(
                f"a {self._noun} has {self._min_size} to {self._max_size} bytes, not {size}", subject=str(size)
            )
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "size", size)

    @property
    def algo(self) -> HashAlgo:
        """The hash algorithm of the digest."""
        return self.digest.algo

    @property
    def hex(self) -> str:
        """The digest in lowercase hex."""
        return self.digest.raw.hex()

    @property
    def text(self) -> str:
        """The key text `<algo>:<hex>:<size>`, the identity shown to people and programs."""
        return f"{self.digest.algo.value}:{self.digest.raw.hex()}:{self.size}"

    @classmethod
    def parse(cls: type[_K], text: str) -> _K:
        """The key whose text is exactly `text`. Raises InvalidInput naming the part that is wrong."""
        parts = text.split(":")
        if len(parts) != 3:
            raise InvalidInput(
                f"a {cls._noun} id has the form <algo>:<hex>:<size>, not {text[:120]!r}", subject=text[:120]
            )
        algo_text, hex_text, size_text = parts
        digest = Digest.from_hex(HashAlgo.parse(algo_text), hex_text)
        if not size_text.isascii() or not size_text.isdigit() or (len(size_text) > 1 and size_text[0] == "0"):
            raise InvalidInput(f"the size in a {cls._noun} id is a plain decimal number, not {size_text[:40]!r}")
        if len(size_text) > 19:  # 2**63 - 1 has 19 digits; int() of a long text is slow
            raise InvalidInput(f"the size {size_text[:40]!r} in a {cls._noun} id is too large")
        return cls(digest, int(size_text))

    def to_bytes(self) -> bytes:
        """Binary form in metadata keys: algorithm tag (1), digest (32), size (8, big endian)."""
        return self.digest.algo.tag_byte + self.digest.raw + _SIZE.pack(self.size)

    @classmethod
    def from_bytes(cls: type[_K], data: bytes) -> _K:
        """Inverse of `to_bytes`. Raises InvalidInput."""
        if len(data) < 9:
            raise InvalidInput("a binary key is too short")
        algo = HashAlgo.from_tag(data[0])
        return cls(Digest(algo, data[1:-8]), _SIZE.unpack(data[-8:])[0])

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a key is immutable")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.digest == other.digest and self.size == other.size

    def __lt__(self: _K, other: _K) -> bool:
        return self.to_bytes() < other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.digest.raw)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.digest, self.size)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.algo.value}:{self.hex[:12]}…:{self.size})"


class BlobKey(Key):
    """Identity of a blob, a byte string of 0 to 2**63 - 1 bytes. Its text is the BlobId."""

    __slots__ = ()
    _noun = "blob"


class BlockKey(Key):
    """Identity of a block of 1 byte to 16 MiB."""

    __slots__ = ()
    _noun = "block"
    _min_size = 1
    _max_size = MAX_BLOCK_BYTES
