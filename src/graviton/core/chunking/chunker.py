"""What a chunker is: a pure state machine from bytes to cut lengths, and the cut rule inside it.

A `Cutter` is the definition of one algorithm: given the bytes of one chunk so far, where does it end? A `Chunker`
drives a cutter over a stream. The cuts of an input do not depend on how it was fed, and they cover it exactly.
"""

from __future__ import annotations

from typing import Protocol

from graviton.core.buffers import Buffer
from graviton.errors import InvalidInput

__all__ = ["Chunker", "Cutter", "StreamingChunker"]


class Cutter(Protocol):
    """The cut rule of one spec; has no state, so one object serves any number of streams."""

    @property
    def max_bytes(self) -> int:
        """No chunk is longer; with that many bytes `cut` always decides."""
        ...

    def cut(self, data: memoryview, seen: int, last: bool) -> int | None:
        """The length of the chunk that begins at `data[0]`, 1 to `max_bytes`, or None if that needs more bytes.

        `seen` is the length of `data` at the previous, undecided call for this chunk (0 at the first): nothing that
        was rejected then is looked at again. `last` says that the input ends with `data`. Empty data give None.
        """
        ...


class Chunker(Protocol):
    """A stream of bytes in, cut lengths out. Not for use by two threads at once."""

    def feed(self, data: Buffer) -> list[int]:
        """Append `data`; the lengths of the chunks whose end is decided by now. Raises InvalidInput after `finish`."""
        ...

    def finish(self) -> list[int]:
        """End the input; the lengths of the chunks that are left: none or one, or more if a rule looks ahead."""
        ...


class StreamingChunker:
    """A `Chunker` over any cutter. Keeps the undecided tail, at most `max_bytes` plus one feed, in memory."""

    __slots__ = ("_buffer", "_cutter", "_finished", "_seen")

    def __init__(self, cutter: Cutter) -> None:
        self._cutter = cutter
        self._buffer = bytearray()
        self._seen = 0
        self._finished = False

    def feed(self, data: Buffer) -> list[int]:
        """See `Chunker.feed`. Copies `data`."""
        if self._finished:
            raise InvalidInput("this chunker is finished: nothing can be fed any more")
        self._buffer += data
        return self._cut(last=False)

    def finish(self) -> list[int]:
        """See `Chunker.finish`. A second call gives nothing."""
        self._finished = True
        return self._cut(last=True)

    def _cut(self, last: bool) -> list[int]:
        lengths: list[int] = []
        start = 0
        with memoryview(self._buffer) as view:
            while (length := self._cutter.cut(view[start:], self._seen, last)) is not None:
                lengths.append(length)
                start += length
                self._seen = 0
        del self._buffer[:start]
        self._seen = len(self._buffer)
        return lengths
