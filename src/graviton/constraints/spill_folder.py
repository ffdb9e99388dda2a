"""Where spilled bytes lie: files without names, which go with the process whatever ends it.

Where the file system cannot make one (O_TMPFILE), a file is made in a folder of this process, and its name is taken
away at once. Should even that be left, by a crash in between or by a network file system that keeps what is open, the
next process removes it: a folder that nobody has locked is nobody's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["SpillFolder"]

_NAME = re.compile(r"graviton-spill-[0-9a-f]{16}")

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
"""What kernels and file systems without O_TMPFILE answer; the folder is there, or ENOENT comes again."""


class SpillFolder:
    """Files of one process below `root`. Blocking; one thread at a time. Everything raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._is_ready = False
        self._own: tuple[str, int] | None = None
        """The folder of this process and its descriptor, which has it locked; where it is needed."""

    def open_file(self) -> int:
        """A descriptor of an empty file without a name, for reading and writing."""
        if not self._is_ready:
            os.makedirs(self.root, 0o700, exist_ok=True)
            self.sweep()
            self._is_ready = True
        if self._own is None:
            try:
                return os.open(self.root, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno not in _NO_UNNAMED_FILES:
                    raise
            self._own = self._make_folder()
        name = secrets.token_hex(8)
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._own[1])
        try:
            os.unlink(name, dir_fd=self._own[1])
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make_folder(self) -> tuple[str, int]:
        while True:
            path = os.path.join(self.root, f"graviton-spill-{secrets.token_hex(8)}")
            os.mkdir(path, 0o700)
            try:
                fd = _open_folder(path)
            except FileNotFoundError:
                continue  # somebody who sweeps was quicker than our lock
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return path, fd
            os.close(fd)  # likewise

    def sweep(self) -> int:
        """Remove what processes that have ended left behind; how many folders that were."""
        swept = 0
        with os.scandir(self.root) as entries:
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
        for name in names:
            try:
                swept += _remove_if_left(os.path.join(self.root, name))
            except OSError:
                continue  # somebody else's, or being removed: no reason not to spill
        return swept

    def close(self) -> None:
        """Remove the folder of this process; files that are open stay readable. Idempotent."""
        own, self._own = self._own, None
        if own is not None:
            _remove(*own)


def _open_folder(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove_if_left(path: str) -> bool:
    fd = _open_folder(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return False
    _remove(path, fd)
    return True


def _remove(path: str, fd: int) -> None:
    """Remove a folder of files that is locked by us; the lock goes with its descriptor."""
    try:
        for name in os.listdir(fd):
            with suppress(OSError):  # the folder then stays, and the next one tries again
                os.unlink(name, dir_fd=fd)
        os.rmdir(path)
    finally:
        os.close(fd)
