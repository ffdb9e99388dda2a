"""A file without a name, for what does not fit into memory and nobody else needs."""

from __future__ import annotations

import io
import os

__all__ = ["open_spool"]


def open_spool(folder: str | None) -> io.FileIO:
    """An empty, unnamed file for writing and reading; the system takes it away with its descriptor, also after a
    crash. In `folder` if that can be, because a temporary folder often lies in memory. Raises OSError."""

    def opener(path: str, _: int) -> int:
        return os.open(path, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)

    if folder is not None:
        try:
            return io.FileIO(folder, "r+b", opener=opener)
        except OSError:
            pass  # a file system without unnamed files, or a folder that is not ours to write
    import tempfile

    fd, name = tempfile.mkstemp(prefix="graviton-")
    os.unlink(name)
    return io.FileIO(fd, "r+b")
