"""What counts as bytes at our edges."""

from __future__ import annotations

from typing import TypeAlias

from graviton.errors import InvalidInput

__all__ = ["Buffer", "as_bytes", "memory_of"]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Readable bytes. `bytes` are immutable and used in place; anything else belongs to its owner, who may change it, and
is copied before its hash is taken (what is written is exactly what was hashed)."""


def memory_of(source: object) -> memoryview | None:
    """The memory of `source` if it is one piece of memory: bytes, an array, a view; None for everything else, and for
    what is also a file (a mapped one), which has a position."""
    if hasattr(source, "read"):
        return None
    try:
        return memoryview(source)  # type: ignore[arg-type]  # asking is the way to find out
    except TypeError:
        return None
    except ValueError as error:
        raise InvalidInput("a source of a put is a memoryview that was released", operation="put") from error


def as_bytes(piece: Buffer) -> memoryview:
    """The bytes of `piece`, whatever the shape and format of a view: in place where that can be, else copied.
    Raises InvalidInput."""
    if isinstance(piece, (bytes, bytearray)):
        return memoryview(piece)
    if not isinstance(piece, memoryview):
        raise InvalidInput(f"a source of a put gives bytes, not {type(piece).__name__}", operation="put")
    try:
        view = memoryview(piece)
    except ValueError as error:
        raise InvalidInput("a source of a put gave a memoryview that was released", operation="put") from error
    if not view.c_contiguous:
        raise InvalidInput(
            "a source of a put gave a memoryview that is not contiguous",
            operation="put",
            hint="Give bytes(view), which copies it.",
        )
    try:
        return view.cast("B")
    except TypeError:
        # Structures, formats of other machines and empty grids cannot be cast. PickleBuffer takes them in place, but
        # its view of a view crashes CPython 3.11 when the garbage collector finds both in one cycle.
        return memoryview(view.tobytes())
