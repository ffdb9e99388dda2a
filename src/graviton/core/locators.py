"""Where bytes are: `Locator`, and the strategies that say where the bytes of a key go.

A locator is never an identity: the same bytes may be in many places and move. The layouts below are stored formats;
a block written by one version is found by every later one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Protocol

from graviton.core._frozen import Frozen, set_field
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlockKey, Key
from graviton.core.paths import MAX_PATH_CHARS, check_path, is_plain
from graviton.errors import InvalidInput

__all__ = [
    "DEFAULT_BLOCK_PREFIX",
    "CasLocatorStrategy",
    "Locator",
    "LocatorStrategy",
    "MirrorLocatorStrategy",
    "Sector",
    "ShardedLocatorStrategy",
    "parse_block_name",
]

DEFAULT_BLOCK_PREFIX: Final = "cas/blocks"
"""Default of GRAVITON_FS_BLOCK_PREFIX and GRAVITON_S3_BLOCK_PREFIX; part of the exact layout."""

MAX_SCHEME_CHARS: Final = 64
MAX_BUCKET_CHARS: Final = 256
"""Both as in the Scala ancestor; S3 itself allows 63 characters of bucket."""

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_SCHEME = _LOWER | frozenset("0123456789+.-")
_HEX_CHARS = 64  # of a digest of either algorithm


class Locator(Frozen):
    """A place: `scheme://bucket/path`. Ordered as its text.

    Scheme: a lowercase letter, then lowercase letters, digits, `+`, `.`, `-`; 1 to 64 characters. Bucket: 1 to 256,
    path: 1 to 2,048 characters, made of segments between `/`. No segment is empty, `.` or `..`, or holds whitespace,
    control characters (NUL among them) or lone surrogates.
    """

    __slots__ = ("bucket", "path", "scheme")
    __match_args__ = ("scheme", "bucket", "path")
    scheme: str
    bucket: str
    path: str

    def __init__(self, scheme: str, bucket: str, path: str) -> None:
        """Raises InvalidInput naming the part that is wrong."""
        _check_scheme(scheme)
        _check_bucket(bucket)
        check_path(path)
        self._set(scheme, bucket, path)

    def _set(self, scheme: str, bucket: str, path: str) -> None:
        set_field(self, "scheme", scheme)
        set_field(self, "bucket", bucket)
        set_field(self, "path", path)

    @classmethod
    def _of(cls, scheme: str, bucket: str, path: str) -> Locator:
        """Of parts that are known to be right: a strategy checks its prefix once, not with every key."""
        made = cls.__new__(cls)
        made._set(scheme, bucket, path)
        return made

    @classmethod
    def parse(cls, text: str) -> Locator:
        """The locator whose text is exactly `text`. Raises InvalidInput."""
        scheme, separator, rest = text.partition("://")
        bucket, slash, path = rest.partition("/")
        if not separator or not slash:
            raise InvalidInput(f"a locator has the form scheme://bucket/path, not {text[:120]!r}", subject=text[:120])
        return cls(scheme, bucket, path)

    @property
    def text(self) -> str:
        """`scheme://bucket/path`; contains no secrets."""
        return f"{self.scheme}://{self.bucket}/{self.path}"

    def __str__(self) -> str:
        return self.text

    def __lt__(self, other: Locator) -> bool:
        return self.text < other.text


def _check_scheme(scheme: str) -> None:
    if not 1 <= len(scheme) <= MAX_SCHEME_CHARS or scheme[0] not in _LOWER or not _SCHEME.issuperset(scheme):
        raise InvalidInput(
            f"the scheme of a locator is a lowercase letter and up to 63 of a-z 0-9 + . -, not {scheme[:80]!r}",
            subject=scheme[:80],
        )


def _check_bucket(bucket: str) -> None:
    if not 1 <= len(bucket) <= MAX_BUCKET_CHARS or "/" in bucket or bucket in (".", "..") or not is_plain(bucket):
        raise InvalidInput(
            f"the bucket of a locator has 1 to {MAX_BUCKET_CHARS} characters without '/' and blanks,"
            f" not {bucket[:80]!r}",
            subject=bucket[:80],
        )


class LocatorStrategy(Protocol):
    """How a key becomes a place. Pure: the same key always gives the same place."""

    def locate(self, key: Key) -> Locator:
        """The place of the bytes of `key`; of several, the first."""

    def block_path(self, key: Key) -> str:
        """The path of that place alone, relative to a root directory or bucket."""


def parse_block_name(algo: HashAlgo, name: str) -> BlockKey:
    """The key of the block stored under the file name `<hex>-<size>` in the folder of `algo`.

    Raises InvalidInput for anything else: other files, temporary names, and other stored forms `<hex>-<size>.<form>`.
    """
    size = name[_HEX_CHARS + 1 :]
    if name[_HEX_CHARS : _HEX_CHARS + 1] != "-" or not 1 <= len(size) <= 8:  # 16 MiB has 8 digits
        raise _not_a_block(name)
    if not (size.isascii() and size.isdigit()) or size[0] == "0":
        raise _not_a_block(name)
    return BlockKey(Digest.from_hex(algo, name[:_HEX_CHARS]), int(size))


def _not_a_block(name: str) -> InvalidInput:
    return InvalidInput(f"{name[:120]!r} is not the name of a stored block, <hex>-<size>", subject=name[:120])


class _PrefixStrategy(Frozen):
    """What layouts below one prefix of one bucket have in common."""

    __slots__ = ("bucket", "prefix", "scheme")
    __match_args__ = ("scheme", "bucket", "prefix")
    scheme: str
    bucket: str
    prefix: str

    def __init__(self, scheme: str = "file", bucket: str = "default", prefix: str = DEFAULT_BLOCK_PREFIX) -> None:
        """`prefix` is a legal path or empty. Raises InvalidInput."""
        _check_scheme(scheme)
        _check_bucket(bucket)
        if prefix:
            check_path(prefix, "block prefix")
        if len(prefix) > MAX_PATH_CHARS - 128:  # room for <algo>/aa/bb/<hex>-<size>
            raise InvalidInput(f"the block prefix has at most {MAX_PATH_CHARS - 128} characters", subject=prefix[:80])
        set_field(self, "scheme", scheme)
        set_field(self, "bucket", bucket)
        set_field(self, "prefix", prefix)

    @property
    def _root(self) -> str:
        return self.prefix + "/" if self.prefix else ""

    def block_path(self, key: Key) -> str:
        """See `LocatorStrategy.block_path`."""
        raise NotImplementedError

    def locate(self, key: Key) -> Locator:
        """See `LocatorStrategy.locate`."""
        return Locator._of(self.scheme, self.bucket, self.block_path(key))

    def parse_path(self, path: str) -> BlockKey:
        """Inverse of `block_path` for blocks. Raises InvalidInput for every other path."""
        root = self._root
        parts = path[len(root) :].split("/") if path.startswith(root) else []
        if len(parts) < 2:
            raise _not_a_block(path)
        key = parse_block_name(HashAlgo.parse(parts[0]), parts[-1])
        if self.block_path(key) != path:
            raise _not_a_block(path)
        return key


class CasLocatorStrategy(_PrefixStrategy):
    """The exact layout, `<prefix>/<algo>/<hex>-<size>`: what both the filesystem and the S3 store use by default."""

    __slots__ = ()

    def block_path(self, key: Key) -> str:
        """`<prefix>/<algo>/<hex>-<size>`; the bytes there are those of the block, nothing else."""
        digest = key.digest
        return f"{self._root}{digest.algo.value}/{digest.raw.hex()}-{key.size}"


class ShardedLocatorStrategy(_PrefixStrategy):
    """The same with two levels of folders from the first digits of the digest: `<prefix>/<algo>/aa/bb/<hex>-<size>`.

    65,536 folders per algorithm, for file systems and tools that do badly with millions of names in one folder.
    """

    __slots__ = ()

    def block_path(self, key: Key) -> str:
        """`<prefix>/<algo>/<digits 1-2>/<digits 3-4>/<hex>-<size>`."""
        text = key.digest.raw.hex()
        return f"{self._root}{key.digest.algo.value}/{text[:2]}/{text[2:4]}/{text}-{key.size}"


class Sector(Frozen):
    """A named place that holds blocks and may fail by itself: a disk, a bucket, a site."""

    __slots__ = ("bucket", "name", "prefix", "scheme")
    __match_args__ = ("name", "scheme", "bucket", "prefix")
    name: str
    scheme: str
    bucket: str
    prefix: str

    def __init__(self, name: str, scheme: str, bucket: str, prefix: str = DEFAULT_BLOCK_PREFIX) -> None:
        """`name` follows the rules of a bucket; blocks are placed by it, so a renamed sector is a new one.

        Raises InvalidInput.
        """
        if not 1 <= len(name) <= MAX_BUCKET_CHARS or "/" in name or not is_plain(name):
            raise InvalidInput(f"a sector name has no blanks or '/', unlike {name[:80]!r}", subject=name[:80])
        CasLocatorStrategy(scheme, bucket, prefix)
        set_field(self, "name", name)
        set_field(self, "scheme", scheme)
        set_field(self, "bucket", bucket)
        set_field(self, "prefix", prefix)


class MirrorLocatorStrategy:
    """`copies` places per key, each in another sector, chosen by rendezvous hashing.

    Every sector gets the score BLAKE2b-64(digest || algorithm name || NUL || sector name); the highest scores win,
    ties by name. So the choice is the same everywhere, does not depend on the order of the sectors, is even, and a
    sector that comes or goes moves only the keys that it gets or had. Stored data relies on it: the score is forever.
    """

    __slots__ = ("_sectors", "copies")

    def __init__(self, sectors: Iterable[Sector], copies: int = 2) -> None:
        """Raises InvalidInput unless names are unique and 1 <= copies <= number of sectors."""
        self._sectors = tuple(
            (sector, sector.name.encode(), CasLocatorStrategy(sector.scheme, sector.bucket, sector.prefix))
            for sector in sectors
        )
        self.copies = copies
        if len({name for _, name, _ in self._sectors}) != len(self._sectors):
            raise InvalidInput("two sectors have the same name")
        if not 1 <= copies <= len(self._sectors):
            raise InvalidInput(f"{copies} copies need as many sectors, and there are {len(self._sectors)}")

    @property
    def sectors(self) -> tuple[Sector, ...]:
        """All sectors, in the order given."""
        return tuple(sector for sector, _, _ in self._sectors)

    def choose(self, key: Key) -> tuple[Sector, ...]:
        """The `copies` sectors of `key`, best first: O(s log s) for s sectors."""
        return tuple(sector for sector, _ in self._ranked(key))

    def locate_all(self, key: Key) -> tuple[Locator, ...]:
        """One locator in each chosen sector, in the exact layout below that sector's prefix, best first."""
        return tuple(strategy.locate(key) for _, strategy in self._ranked(key))

    def locate(self, key: Key) -> Locator:
        """The first of `locate_all`."""
        return self.locate_all(key)[0]

    def block_path(self, key: Key) -> str:
        """The path of `locate`."""
        return self.locate(key).path

    def _ranked(self, key: Key) -> list[tuple[Sector, CasLocatorStrategy]]:
        seed = blake2b(key.digest.raw + key.digest.algo.value.encode() + b"\x00", digest_size=8)
        scored = []
        for sector, name, strategy in self._sectors:
            state = seed.copy()
            state.update(name)
            scored.append((state.digest(), name, sector, strategy))
        scored.sort(key=lambda item: item[:2], reverse=True)
        return [(sector, strategy) for _, _, sector, strategy in scored[: self.copies]]
