"""Where the block cache lies and how large it may be: GRAVITON_CACHE_ROOT and GRAVITON_CACHE_BYTES."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from graviton.assembly.environment import Reader, parse_path, parse_size
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.errors import InvalidInput

__all__ = ["DEFAULT_CACHE_BYTES", "CacheSettings", "cache_settings", "check_cache_bytes"]

DEFAULT_CACHE_BYTES = 10 * 1024**3
"""Some ten thousand blocks of the default chunker, which cost the process 4 MiB of memory; most disks have that much to
spare, and whoever has more to read every day knows how much it is."""

MIN_CACHE_BYTES = 4 * MAX_BLOCK_BYTES
"""With less, one large block would throw out most of what is there."""


class CacheSettings(NamedTuple):
    """A cache of blocks on a local disk."""

    root: Path
    """Absolute, so that a later chdir changes nothing."""
    max_bytes: int = DEFAULT_CACHE_BYTES


def cache_settings(get: Reader, blob_backend: str) -> tuple[CacheSettings | None, tuple[str, ...]]:
    """The cache that environment variables ask for, if any, and what is worth saying about them. Raises ConfigError
    naming the one that is wrong."""
    root = get.value("GRAVITON_CACHE_ROOT", parse_path, None)
    size = get.value("GRAVITON_CACHE_BYTES", _size, None)
    if root is None:
        return None, () if size is None else ("GRAVITON_CACHE_BYTES has no effect without GRAVITON_CACHE_ROOT",)
    if size == 0:
        return None, ()
    cache = CacheSettings(root.absolute(), size or DEFAULT_CACHE_BYTES)
    if blob_backend not in ("fs", "memory"):
        return cache, ()
    remark = (
        f"GRAVITON_CACHE_ROOT with GRAVITON_BLOB_BACKEND={blob_backend} keeps a second copy of blocks that are on this"
        " machine already, and makes nothing faster"
    )
    return cache, (remark,)


def _size(text: str) -> int:
    return check_cache_bytes(parse_size(text))


def check_cache_bytes(size: int) -> int:
    """`size` if a cache may be so large; 0 stands for none. Raises InvalidInput."""
    if size and size < MIN_CACHE_BYTES:
        raise InvalidInput(
            f"a cache has at least {MIN_CACHE_BYTES} bytes, not {size}", hint="Write 64MiB or more; 0 turns it off."
        )
    return size
