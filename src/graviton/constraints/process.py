"""What a program whose work is to move blocks settles for its process, once: how memory is given back, and looked at.

Blocks are objects of about a megabyte that live for milliseconds. glibc gives such memory back to the system when it is
freed. Every allocation then costs page faults and zeroes: twice as much as to read the block from the page cache and to
hash it (docs/decisions/0052-small-gets.md). A library does not decide that for a process that others own; a program
whose work is to move blocks does, once, at its start.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["keep_freed_memory", "spare_the_collector"]

# From glibc's malloc.h; the numbers are part of its binary interface.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_LARGEST_MMAP_THRESHOLD: Final = 32 * 1024 * 1024
"""What glibc accepts at most, and more than the largest block has."""


def keep_freed_memory(up_to: int) -> bool:
    """Have the C library keep memory that is freed, up to `up_to` bytes: as much as a process may use anyway, so the
    byte budget. Whether it can be told to: with glibc. For the whole process.

    All threads that begin from then on allocate from one arena: what one has read is freed by another, and would be
    kept for the first, which has enough already. So a server does it before its first thread; threads that have begun
    may have arenas of their own, which a command with few of them can afford. Python's own objects come from elsewhere.
    """
    import ctypes  # 10 ms, needed by few

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        (_M_TRIM_THRESHOLD, min(up_to, 2**31 - 1)),
    )
    return all(mallopt(ctypes.c_int(option), ctypes.c_int(value)) == 1 for option, value in settings)


def spare_the_collector() -> None:
    """Take all objects that there are now, and will stay, out of the sight of the garbage collector: when a program has
    started and begins to serve. A full collection looks at every object; of a server's 60,000 that takes 30 ms, in
    which nothing else runs, and it comes every few hundred requests."""
    gc.collect()
    gc.freeze()
