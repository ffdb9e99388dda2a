"""Huge pages for a server that holds gigabytes in shared memory, for as long as it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["huge_pages"]

_COUNT = Path("/proc/sys/vm/nr_hugepages")
_PAGE_MIB = 2
"""Of x86-64; where pages are larger, more than is asked for is set aside."""


@contextmanager
def huge_pages(mebibytes: int) -> Iterator[None]:
    """Have the system set so much memory aside, if it lets us and nobody else has; given back at the end. PostgreSQL
    takes what is there (`huge_pages = try`) and says so (`SHOW huge_pages_status`)."""
    try:
        before = int(_COUNT.read_text())
        if before == 0:
            _COUNT.write_text(str(mebibytes // _PAGE_MIB))
    except OSError:  # not Linux, or not root
        yield
        return
    try:
        yield
    finally:
        if before == 0:
            _COUNT.write_text("0")
