"""Folders below one root, opened so that no link inside it is ever followed, whatever others put there meanwhile.

Every step of a path is opened from the folder before it and must be a real folder. The last few are kept open.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from types import TracebackType
from typing import Final

__all__ = ["SafeFolders"]

_KEPT: Final = 32
"""Open folders kept: neighbours in a listing share most of their path."""

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SafeFolders:
    """Use with `with`; not by two threads at once. All paths are bytes relative to the root, as a listing has them."""

    def __init__(self, root: str) -> None:
        """`root` itself may be a link: whoever named it meant where it leads. Raises OSError."""
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def folder(self, path: bytes) -> int:
        """The descriptor of the folder `path`, valid until the next call. Raises OSError: NotADirectoryError or ELOOP
        if a step is not a folder."""
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        done, fd = self._nearest(path)
        while done != path:
            end = path.find(b"/", len(done) + 1)
            done, name = (path, path[len(done) :]) if end < 0 else (path[:end], path[len(done) : end])
            fd = os.open(name.lstrip(b"/"), _FLAGS, dir_fd=fd)
            self._keep(done, fd)
        return fd

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """The folder that `path` is in, and its name there. Raises OSError."""
        above, _, name = path.rpartition(b"/")
        return self.folder(above), name

    def _nearest(self, path: bytes) -> tuple[bytes, int]:
        """The longest part of `path` that is open."""
        above = path
        while above:
            above = above.rpartition(b"/")[0]
            fd = self._open.get(above)
            if fd is not None:
                self._open.move_to_end(above)
                return above, fd
        return b"", self._root

    def _keep(self, path: bytes, fd: int) -> None:
        self._open[path] = fd
        while len(self._open) > _KEPT:
            _, oldest = self._open.popitem(last=False)
            os.close(oldest)

    def __enter__(self) -> SafeFolders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in (*self._open.values(), self._root):
            os.close(fd)
        self._open.clear()
