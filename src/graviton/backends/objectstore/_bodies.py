"""Bytes on their way up and down on a thread, which looks again and again whether somebody still waits for them."""

from __future__ import annotations

import os
from typing import Any, Final

from graviton.concurrency.calls import CancelFlag
from graviton.core.clock import SystemClock
from graviton.errors import Unavailable

__all__ = ["Body", "read_body"]

_READ_BYTES: Final = 512 * 1024
"""How much comes down between two looks."""


class Body:
    """Memory as the file that the driver wants for what it sends. Raises CallCancelled to end a request that nobody
    waits for, while the server cannot have all of it; the connection is closed then. After its block it refers to the
    memory no more."""

    def __init__(self, data: memoryview, flag: CancelFlag) -> None:
        self._data = data
        self._flag = flag
        self._position = 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int | None = None) -> memoryview:
        """The next bytes, in place; at most `size`, or all that are left."""
        start = self._position
        left = len(self._data) - start
        if left:  # else the server has all of it, and would do it later, behind our back
            self._flag.check()
        self._position += left if size is None or size < 0 else min(size, left)
        return self._data[start : self._position]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file: the driver reads twice, for the signature and to send."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._data)}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """As of a file."""
        return self._position

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exception: object) -> None:
        self._data = memoryview(b"")


def read_body(body: Any, flag: CancelFlag, wanted: int, seconds: float) -> bytes:
    """The bytes of an answer, as they arrive; of too many one more than are wanted. Raises Unavailable when they take
    longer than so many seconds together: a time-out of the driver is for one look at the network."""
    clock = SystemClock()
    until = clock.monotonic() + seconds
    raw = getattr(body, "_raw_stream", body)  # the driver's own waits until it has as many as it was asked for
    read = getattr(raw, "read1", raw.read)
    pieces, left = [], wanted + 1
    while left and (piece := read(min(left, _READ_BYTES))):
        flag.check()
        pieces.append(piece)
        left -= len(piece)
        if left and clock.monotonic() > until:
            raise Unavailable(f"{wanted - left + 1} of {wanted} bytes arrived in {seconds:g} s", operation="get")
    return b"".join(pieces)
