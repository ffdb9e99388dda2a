"""Range *requests*: what a person types and what the HTTP Range header says, until the size of the blob is known.

Three small types instead of a tuple of maybe-None: `Bounded` (first and last byte, inclusive), `From` (first byte to
the end) and `Suffix` (the last n bytes). `resolve(size)` turns each into a half-open `Span` by the rules of RFC 9110
section 14.1.2: a last byte past the end is clipped; a first byte at or past the end, a suffix of 0 bytes, and any
range of an empty blob are not satisfiable.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from graviton.core._frozen import Frozen, set_field
from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, RangeNotSatisfiable

__all__ = ["MAX_HTTP_RANGES", "Bounded", "ByteRange", "From", "Suffix", "parse_http_range", "parse_range"]

MAX_HTTP_RANGES: Final = 16
"""Ranges honoured in one header. RFC 9110 section 14.2 lets a server ignore "many small ranges", which are an attack
(CVE-2011-3192) far more often than a wish; 16 is more than players and PDF viewers ask for."""

_MAX_HEADER_CHARS: Final = 1024
"""16 ranges of two 19-digit numbers, with room for blanks; longer is ignored before it is looked at."""


_MAX_DIGITS: Final = 40
"""Of a number that is looked at; MAX_SIZE has 19, and somebody may like zeros in front."""


class Bounded(Frozen):
    """The bytes `first` to `last`, both included."""

    __slots__ = ("first", "last")
    __match_args__ = ("first", "last")
    first: int
    last: int

    def __init__(self, first: int, last: int) -> None:
        """Raises InvalidInput unless 0 <= first <= last <= MAX_SIZE."""
        if not 0 <= first <= last <= MAX_SIZE:
            raise InvalidInput(f"a byte range needs 0 <= first <= last, not {first}-{last}", subject=f"{first}-{last}")
        set_field(self, "first", first)
        set_field(self, "last", last)

    def resolve(self, size: int) -> Span:
        """The span in a blob of `size` bytes, clipped at its end. Raises RangeNotSatisfiable."""
        if self.first >= size:
            raise _outside(str(self), size)
        return Span(self.first, min(self.last + 1, size))

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class From(Frozen):
    """The bytes from `first` to the end."""

    __slots__ = ("first",)
    __match_args__ = ("first",)
    first: int

    def __init__(self, first: int) -> None:
        """Raises InvalidInput unless 0 <= first <= MAX_SIZE."""
        if not 0 <= first <= MAX_SIZE:
            raise InvalidInput(f"the first byte of a range is 0 or more, not {first}", subject=str(first))
        set_field(self, "first", first)

    def resolve(self, size: int) -> Span:
        """The span in a blob of `size` bytes. Raises RangeNotSatisfiable."""
        if self.first >= size:
            raise _outside(str(self), size)
        return Span(self.first, size)

    def __str__(self) -> str:
        return f"{self.first}-"


class Suffix(Frozen):
    """The last `length` bytes, or all if there are fewer."""

    __slots__ = ("length",)
    __match_args__ = ("length",)
    length: int

    def __init__(self, length: int) -> None:
        """0 is well-formed and never satisfiable. Raises InvalidInput unless 0 <= length <= MAX_SIZE."""
        if not 0 <= length <= MAX_SIZE:
            raise InvalidInput(f"the length of a suffix range is 0 or more, not {length}", subject=str(length))
        set_field(self, "length", length)

    def resolve(self, size: int) -> Span:
        """The span in a blob of `size` bytes. Raises RangeNotSatisfiable."""
        if self.length == 0 or size == 0:
            raise _outside(str(self), size)
        return Span(max(0, size - self.length), size)

    def __str__(self) -> str:
        return f"-{self.length}"


ByteRange: TypeAlias = Bounded | From | Suffix


def _outside(text: str, size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(
        f"the range {text} holds no byte of a blob of {size} bytes",
        subject=text,
        hint=f"Bytes are counted from 0; the last one is {size - 1}." if size else "The blob is empty.",
    )


def parse_range(text: str) -> ByteRange:
    """What a person types: `A-B` (both included), `A-` or `-N`. Numbers past `MAX_SIZE` are taken as
    `MAX_SIZE`. Raises InvalidInput naming the part that is wrong."""
    first, dash, last = text.partition("-")
    if not dash or not (first or last):
        raise InvalidInput(
            f"a range has the form A-B, A- or -N, not {text[:80]!r}",
            subject=text[:80],
            hint="Both ends are included and counted from 0: 0-99 is the first 100 bytes, -100 the last 100.",
        )
    if not first:
        return Suffix(_typed_number(last, "length", text))
    start = _typed_number(first, "first byte", text)
    if not last:
        return From(start)
    end = _typed_number(last, "last byte", text)
    if end < start:
        raise InvalidInput(
            f"the last byte {end} of range {text[:80]!r} is before its first byte {start}", subject=text[:80]
        )
    return Bounded(start, end)


def parse_http_range(header: str) -> list[ByteRange] | None:
    """The value of a Range header, for example `bytes=0-99, -100`; None means: answer as if it were not there.

    None for another unit, for anything malformed (an invalid ranges-specifier may be ignored, RFC 9110 section 14.2)
    and for more than `MAX_HTTP_RANGES` ranges. Numbers past `MAX_SIZE` are taken as `MAX_SIZE`. Never raises.
    """
    if len(header) > _MAX_HEADER_CHARS:
        return None
    unit, equals, specs = header.strip(" \t").partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    ranges: list[ByteRange] = []
    for item in specs.split(","):
        spec = item.strip(" \t")
        if not spec:
            continue  # RFC 9110 section 5.6.1.2: a recipient ignores empty list elements
        parsed = _http_spec(spec)
        if parsed is None or len(ranges) == MAX_HTTP_RANGES:
            return None
        ranges.append(parsed)
    return ranges or None


def _http_spec(spec: str) -> ByteRange | None:
    first, dash, last = spec.partition("-")
    if not dash or not _is_number(first or "0") or not _is_number(last or "0") or spec == "-":
        return None
    if not first:
        return Suffix(min(int(last), MAX_SIZE))  # at most _MAX_HEADER_CHARS digits: int() stays fast
    start = int(first)
    if not last:
        return From(min(start, MAX_SIZE))
    end = int(last)
    return Bounded(min(start, MAX_SIZE), min(end, MAX_SIZE)) if start <= end else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _typed_number(digits: str, part: str, text: str) -> int:
    if not _is_number(digits):
        raise InvalidInput(f"the {part} of range {text[:80]!r} is not a number: {digits[:40]!r}", subject=text[:80])
    # What is past the largest blob is past the end of any: no error of its own, and no arithmetic with endless digits.
    return min(int(digits), MAX_SIZE) if len(digits) <= _MAX_DIGITS else MAX_SIZE
