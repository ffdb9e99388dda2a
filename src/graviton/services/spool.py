"""A file without a name, for what does not fit into memory and nobody else needs."""

from __future__ import annotations

import io
import os

from graviton.core.listing import HEADER, ListingEncoder, ListingEntry

__all__ = ["ListingSpool", "open_spool"]


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


class ListingSpool:
    """A listing on its way into a spool file."""

    def __init__(self, spool: io.FileIO) -> None:
        self._spool = spool
        self._encoder = ListingEncoder()
        self._lines = bytearray(HEADER)

    def add(self, entry: ListingEntry) -> None:
        """Append the line of `entry`. Raises InvalidInput as `ListingEncoder.encode`, OSError."""
        self._lines += self._encoder.encode(entry)
        if len(self._lines) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is still in memory. Raises OSError."""
        rest = memoryview(bytes(self._lines))
        while rest:
            rest = rest[self._spool.write(rest) :]
        self._lines.clear()


_FLUSH_BYTES = 1024 * 1024
