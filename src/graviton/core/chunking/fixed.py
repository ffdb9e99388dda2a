"""`fixed-v1:size`: a cut every `size` bytes, whatever they are."""

from __future__ import annotations

from graviton.core.chunking.spec import ChunkerSpec

__all__ = ["FixedCutter"]


class FixedCutter:
    """The cut rule of `fixed-v1`. For data that changes in place, such as disk images and database files."""

    __slots__ = ("max_bytes",)

    def __init__(self, spec: ChunkerSpec) -> None:
        self.max_bytes = spec.max_bytes

    def cut(self, data: memoryview, seen: int, last: bool) -> int | None:
        """See `Cutter.cut`."""
        if len(data) >= self.max_bytes:
            return self.max_bytes
        return len(data) or None if last else None
