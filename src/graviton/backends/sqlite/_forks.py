"""Which database files this process had open when it was made by fork: they cannot be used in it.

SQLite keeps one record per process and file of the locks it holds. A fork copies the record but not the locks, so what
a child opens believes in locks that nobody holds. When the parent then closes its store it takes itself for the last
user and deletes the WAL, and whatever the child commits after that, durable as far as it can tell, goes into a file
without a name. No call of SQLite makes it forget, so such a file is refused (https://sqlite.org/howtocorrupt.html
section 2.6). Nor may the parent's connections be closed in the child: rolling back would change memory shared with the
parent. They are not, because each is held by the frame of its thread, and the frames of threads that a fork cuts off
are never taken apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from graviton.errors import Retry, Unavailable

__all__ = ["check_not_inherited", "in_use"]

_used: list[str] = []
"""The file of each thread that may have a connection now. Appending and removing are atomic."""
_inherited: list[str] = []
"""What stood in `_used` when this process, or one of those it descends from, was forked."""


@contextmanager
def in_use(path: str) -> Iterator[None]:
    """Around all that a thread does with connections to `path`."""
    _used.append(path)
    try:
        yield
    finally:
        _used.remove(path)


def check_not_inherited(path: str) -> None:
    """Raise Unavailable if the process had `path` open when it was made."""
    if any(_is_same(path, one) for one in _inherited):
        raise Unavailable(
            f"{path} was open in the process that this one was forked from, and SQLite cannot open it here safely",
            operation="metadata.open",
            subject=path,
            hint="Close the store before the fork, or start the process another way (multiprocessing: spawn).",
            retry=Retry.PERMANENT,
        )


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return path == other


def _after_fork() -> None:
    _inherited.extend(_used)
    _used.clear()


os.register_at_fork(after_in_child=_after_fork)
