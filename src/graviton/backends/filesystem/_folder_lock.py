"""`FolderLock`: a folder that one process at a time owns, for as long as it lives.

`flock` belongs to an open file, and ends when the last descriptor of that is closed. A child made by fork has copies of
all descriptors: it would keep the lock when its parent is long gone, so there they are closed at once.
"""

from __future__ import annotations

import fcntl
import os
import weakref

__all__ = ["FolderLock"]

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class _Descriptor:
    """Of an open lock file; by identity, because the system gives the same number again."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number
        _opened.add(self)  # before there is a lock: only a fork between two lines could escape

    def close(self) -> None:
        if self in _opened:
            _opened.remove(self)
            os.close(self.number)


_opened: set[_Descriptor] = set()
"""Those of this process."""


def _after_fork() -> None:
    for descriptor in tuple(_opened):
        descriptor.close()


os.register_at_fork(after_in_child=_after_fork)


class FolderLock:
    """On the file `path`. Methods raise OSError. Given back at the latest when nobody refers to this any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: _Descriptor | None = None
        self._close: weakref.finalize[..., FolderLock] | None = None

    def take(self) -> bool:
        """Whether this has the lock now; False if another one has it."""
        if self._descriptor in _opened:
            return True
        descriptor = _Descriptor(os.open(self._path, _OPEN, 0o600))
        try:
            fcntl.flock(descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor.number, 0)
            os.pwrite(descriptor.number, f"{os.getpid()}\n".encode(), 0)  # for people, see `holder`
        except BlockingIOError:
            descriptor.close()
            return False
        except BaseException:
            descriptor.close()
            raise
        self._descriptor, self._close = descriptor, weakref.finalize(self, descriptor.close)
        return True

    def give_back(self) -> None:
        """Let another one have it. Idempotent."""
        if self._close is not None:
            self._close()

    def holder(self) -> str | None:
        """The process that has the lock, as text for people; None if none has. Changes nothing."""
        try:
            number = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(number, 20, 0).decode("ascii", "replace").strip() or "?"
        finally:
            os.close(number)
        return None
