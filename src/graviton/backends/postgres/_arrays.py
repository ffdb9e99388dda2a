"""Arrays of parameters, written in PostgreSQL's binary form without looking at each element twice.

psycopg finds out the type of every list element by element, because a list may hold anything. Our scripts send some
twenty arrays for a small put, whose types the statements say, and this is a third of what the put costs the client.
https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-FORMAT-CODES, src/backend/utils/adt/arrayfuncs.c
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

__all__ = ["Bigints", "Byteas", "Integers", "Smallints", "Texts", "register_arrays"]

_HEAD = struct.Struct("!iiIii")  # dimensions, whether there are NULLs, type of the elements, their number, first index
_EMPTY = struct.Struct("!iiI")
_LENGTH = struct.Struct("!i")


class Smallints(list[int]):
    """`smallint[]`."""


class Integers(list[int]):
    """`integer[]`."""


class Bigints(list[int]):
    """`bigint[]`."""


class Byteas(list[bytes]):
    """`bytea[]`."""


class Texts(list[str]):
    """`text[]`."""


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element_oid: ClassVar[int]

    def dump(self, obj: Any) -> bytes:
        """See `Dumper`."""
        if not obj:
            return _EMPTY.pack(0, 0, self.element_oid)
        return _HEAD.pack(1, 0, self.element_oid, len(obj), 1) + self.elements(obj)

    def elements(self, values: Any) -> bytes:
        """Length and bytes of each. Every kind of element has its own."""
        raise NotImplementedError


class _NumbersDumper(_ArrayDumper):
    code: ClassVar[str]
    size: ClassVar[int]

    def elements(self, values: list[int]) -> bytes:
        """See `_ArrayDumper`."""
        flat = [self.size] * (2 * len(values))
        flat[1::2] = values
        return struct.pack("!" + f"i{self.code}" * len(values), *flat)


class _SmallintsDumper(_NumbersDumper):
    oid, element_oid, code, size = 1005, 21, "h", 2


class _IntegersDumper(_NumbersDumper):
    oid, element_oid, code, size = 1007, 23, "i", 4


class _BigintsDumper(_NumbersDumper):
    oid, element_oid, code, size = 1016, 20, "q", 8


class _ByteasDumper(_ArrayDumper):
    oid, element_oid = 1001, 17

    def elements(self, values: list[bytes]) -> bytes:
        """See `_ArrayDumper`."""
        pack = _LENGTH.pack
        return b"".join([part for value in values for part in (pack(len(value)), value)])


class _TextsDumper(_ByteasDumper):
    oid, element_oid = 1009, 25

    def elements(self, values: Any) -> bytes:
        """See `_ArrayDumper`."""
        return super().elements([value.encode() for value in values])


_DUMPERS: dict[type, type[_ArrayDumper]] = {
    Smallints: _SmallintsDumper,
    Integers: _IntegersDumper,
    Bigints: _BigintsDumper,
    Byteas: _ByteasDumper,
    Texts: _TextsDumper,
}


def register_arrays(adapters: AdaptersMap) -> None:
    """Let a connection take the arrays of this module."""
    for kind, dumper in _DUMPERS.items():
        adapters.register_dumper(kind, dumper)
