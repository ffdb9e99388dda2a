"""A base for small immutable values whose number or start-up cost matters.

A frozen dataclass with slots costs about 1 ms at import, and `dataclasses` with `inspect` and `re` 10 ms on top; a
command that prints one line should not pay that for values this simple.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

__all__ = ["Frozen", "set_field"]

set_field = object.__setattr__
"""How an `__init__` of a `Frozen` class sets its own fields."""


class Frozen:
    """Equality, hash, pickling and a repr from `__match_args__`: the fields in the order `__init__` takes them."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked as by `__init__`."""
        return type(self)(**dict(zip(self.__match_args__, self._fields(), strict=True)) | changes)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and type(other) is type(self) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._fields()

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({fields})"
