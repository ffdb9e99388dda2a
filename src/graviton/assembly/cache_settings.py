"""Where the block cache lies and how large it may be: GRAVITON_CACHE_ROOT and GRAVITON_CACHE_BYTES."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.errors import InvalidInput

__all__ = ["DEFAULT_CACHE_BYTES", "CacheSettings", "check_cache_bytes"]

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


def check_cache_bytes(size: int) -> int:
    """`size` if a cache may be so large; 0 stands for none. Raises InvalidInput."""
    if size and size < MIN_CACHE_BYTES:
        raise InvalidInput(
            f"a cache has at least {MIN_CACHE_BYTES} bytes, not {size}", hint="Write 64MiB or more; 0 turns it off."
        )
    return size
