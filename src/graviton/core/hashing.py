"""Hash algorithms and hashers: the only identities bytes have.

The digest of a block or blob is the plain hash of its bytes, so that `b3sum` and `sha256sum` can check it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Protocol

from graviton.core.buffers import Buffer
from graviton.errors import InvalidInput

__all__ = ["DEFAULT_HASH", "Digest", "HashAlgo", "Hasher", "MultiHasher"]


class HashAlgo(Enum):
    """A hash algorithm a key may use. The value is its canonical name in key text and paths."""

    BLAKE3 = "blake3"
    SHA256 = "sha256"

    # Plain attributes, because keys are made and taken apart by the thousand.
    tag: int
    """The byte that stands for the algorithm in stored binary keys; never reused, never changed."""
    tag_byte: bytes
    """The tag as it begins a binary key."""
    digest_bytes: int
    """Length of a digest in bytes; 32 for both algorithms there are."""

    def __init__(self, name: str) -> None:
        self.tag = {"blake3": 1, "sha256": 2}[name]
        self.tag_byte = bytes((self.tag,))
        self.digest_bytes = 32

    __hash__ = object.__hash__  # members are unique objects; Enum's own hashes the name, in Python

    @classmethod
    def parse(cls, text: str) -> HashAlgo:
        """The algorithm named `text`; `sha-256` is accepted for `sha256`. Raises InvalidInput."""
        algo = _NAMES.get(text)
        if algo is None:
            raise InvalidInput(f"unknown hash algorithm {text!r}", subject=text, hint="Use blake3 or sha256.")
        return algo

    @classmethod
    def from_tag(cls, tag: int) -> HashAlgo:
        """The algorithm whose stored byte is `tag`. Raises InvalidInput."""
        algo = _BY_TAG.get(tag)
        if algo is None:
            raise InvalidInput(f"unknown hash algorithm tag {tag}")
        return algo

    def hasher(self) -> Hasher:
        """A new, empty hasher of this algorithm."""
        return Hasher(self)

    def digest(self, data: Buffer) -> Digest:
        """The digest of `data` in one call."""
        hasher = Hasher(self)
        hasher.update(data)
        return hasher.digest()


DEFAULT_HASH = HashAlgo.BLAKE3
_BY_TAG = {algo.tag: algo for algo in HashAlgo}
_NAMES = {"blake3": HashAlgo.BLAKE3, "sha256": HashAlgo.SHA256, "sha-256": HashAlgo.SHA256}


class Digest:
    """The output of a hash: an algorithm and its bytes; immutable, hashable, ordered by (algorithm name, bytes)."""

    __slots__ = ("algo", "raw")
    algo: HashAlgo
    raw: bytes

    def __init__(self, algo: HashAlgo, raw: bytes) -> None:
        if len(raw) != algo.digest_bytes:
            raise InvalidInput(f"a {algo.value} digest has {algo.digest_bytes} bytes, not {len(raw)}")
        object.__setattr__(self, "algo", algo)
        object.__setattr__(self, "raw", raw)

    @classmethod
    def from_hex(cls, algo: HashAlgo, text: str) -> Digest:
        """Parse exactly `2 * algo.digest_bytes` lowercase hex digits. Raises InvalidInput."""
        if len(text) != 2 * algo.digest_bytes or not _LOWER_HEX.issuperset(text):
            raise InvalidInput(
                f"a {algo.value} digest is {2 * algo.digest_bytes} lowercase hex digits, not {text[:80]!r}"
            )
        return cls(algo, bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """Lowercase hex text."""
        return self.raw.hex()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Digest is immutable")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.raw == other.raw and self.algo is other.algo

    def __lt__(self, other: Digest) -> bool:
        return (self.algo.value, self.raw) < (other.algo.value, other.raw)

    def __hash__(self) -> int:
        return hash(self.raw)

    def __reduce__(self) -> tuple[Any, ...]:
        return Digest, (self.algo, self.raw)

    def __str__(self) -> str:
        return f"{self.algo.value}:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest({self.algo.value}:{self.hex[:12]}…)"


_LOWER_HEX = frozenset("0123456789abcdef")


class _HashObject(Protocol):
    def update(self, data: Buffer, /) -> object: ...
    def digest(self) -> bytes: ...


class Hasher:
    """An incremental hash that counts its bytes. Not for use by two threads at once."""

    __slots__ = ("_hash", "algo", "size")

    def __init__(self, algo: HashAlgo = DEFAULT_HASH) -> None:
        self.algo = algo
        self.size = 0
        self._hash: _HashObject = _new_hash(algo)

    def update(self, data: Buffer) -> None:
        """Append `data`. Releases the GIL for larger buffers."""
        self._hash.update(data)
        self.size += data.nbytes if isinstance(data, memoryview) else len(data)

    def digest(self) -> Digest:
        """The digest of everything so far; more may follow."""
        return Digest(self.algo, self._hash.digest())


def _new_hash(algo: HashAlgo) -> _HashObject:
    if algo is HashAlgo.SHA256:
        return hashlib.sha256()
    return _new_blake3()


def _new_blake3() -> _HashObject:
    global _new_blake3  # noqa: PLW0603 - replaces itself: half of all processes never hash, the others hash a lot
    from blake3 import blake3

    _new_blake3 = blake3
    return blake3()


class MultiHasher:
    """Several algorithms over one pass of the same bytes."""

    __slots__ = ("_hashers",)

    def __init__(self, algos: Iterable[HashAlgo]) -> None:
        self._hashers = {algo: Hasher(algo) for algo in algos}
        if not self._hashers:
            raise InvalidInput("a MultiHasher needs at least one algorithm")

    @property
    def size(self) -> int:
        """Bytes seen so far."""
        return next(iter(self._hashers.values())).size

    def update(self, data: Buffer) -> None:
        """Append `data` to every hash."""
        for hasher in self._hashers.values():
            hasher.update(data)

    def digests(self) -> Mapping[HashAlgo, Digest]:
        """One digest per algorithm, in the order given."""
        return {algo: hasher.digest() for algo, hasher in self._hashers.items()}
