"""Binary keys as columns, and bounds on binary keys as bounds on columns."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from graviton.errors import InvalidInput

__all__ = ["Bound", "KeyLayout", "Part"]


class Part(Enum):
    """One column of a key, with its type in the database and its bytes in a key (0: all the rest)."""

    TAG = ("smallint", 1)
    COUNT = ("integer", 4)
    NUMBER = ("bigint", 8)
    SIZE = ("integer", 8)
    ID = ("bytea", 16)
    DIGEST = ("bytea", 32)
    BYTES = ("bytea", 0)

    def __init__(self, sql_type: str, width: int) -> None:
        self.sql_type = sql_type
        self.width = width

    def encode(self, value: Any) -> bytes:
        """The column's bytes in a key."""
        if isinstance(value, int):
            return value.to_bytes(self.width, "big")
        return bytes(value)

    def decode(self, data: bytes) -> Any:
        """The column that has these bytes."""
        return data if self.sql_type == "bytea" else int.from_bytes(data, "big")


_HIGHEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


class Bound(NamedTuple):
    """Rows whose columns compare so with `values` have keys on the wanted side."""

    operator: str
    values: list[Any]


class KeyLayout:
    """The columns of a key, in order; only the last may be of any length."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        self._fixed = sum(part.width for part in parts)
        self._is_open = parts[-1].width == 0

    def encode(self, values: Sequence[Any]) -> bytes:
        """The key that columns make."""
        return b"".join(part.encode(value) for part, value in zip(self.parts, values, strict=True))

    def decode(self, key: bytes) -> list[Any]:
        """The columns of a whole key. Raises InvalidInput if it cannot be one."""
        if len(key) < self._fixed or (len(key) > self._fixed and not self._is_open):
            raise InvalidInput(f"a key of {len(key)} bytes cannot be one of this namespace")
        return self._split(key)

    def _split(self, key: bytes) -> list[Any]:
        values, at = [], 0
        for part in self.parts:
            end = at + part.width if part.width else len(key)
            values.append(part.decode(key[at:end]))
            at = end
        return values

    def above(self, key: bytes, inclusive: bool) -> Bound:
        """Rows whose key is greater than `key`, or (inclusive) also those that have it."""
        return self._bound(key, ">=" if inclusive else ">", ">=", ">")

    def below(self, key: bytes) -> Bound:
        """Rows whose key is less than `key`."""
        return self._bound(key, "<", "<", "<=")

    def _bound(self, key: bytes, exact: str, shorter: str, longer: str) -> Bound:
        """A key too short is the one with zeros after it, and no key lies between; one too long comes right after the
        key it begins with."""
        if len(key) < self._fixed:
            return self._clamped(key + bytes(self._fixed - len(key)), shorter)
        if len(key) > self._fixed and not self._is_open:
            return self._clamped(key[: self._fixed], longer)
        return self._clamped(key, exact)

    def _clamped(self, key: bytes, operator: str) -> Bound:
        """Numbers that no column can hold lie beyond all rows with the columns before them."""
        values: list[Any] = []
        for part, value in zip(self.parts, self._split(key), strict=True):
            highest = _HIGHEST.get(part.sql_type)
            if highest is not None and value > highest:
                beyond = ">" if operator.startswith(">") else "<="
                return Bound(beyond, [*values, highest, *(_greatest(rest) for rest in self.parts[len(values) + 1 :])])
            values.append(value)
        return Bound(operator, values)


def _greatest(part: Part) -> Any:
    """No row has more in that column."""
    return _HIGHEST.get(part.sql_type, b"\xff" * 2048)
