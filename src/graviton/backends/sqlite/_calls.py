"""Transactions and reads on their way to a thread of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from graviton.concurrency.calls import Call

__all__ = ["ViewCall"]

_T = TypeVar("_T")


class ViewCall(Call[_T]):
    """A function that wants a view of the data."""

    __slots__ = ("fn", "full")

    def __init__(self, fn: Callable[[Any], _T], full: bool) -> None:
        super().__init__()
        self.fn: Callable[[Any], _T] = fn
        self.full = full
