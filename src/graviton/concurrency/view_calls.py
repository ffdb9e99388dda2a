"""Functions that want a view of data, on their way to a thread that has one."""

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
        """`full`: whether the disk is waited for before the call ends."""
        super().__init__()
        self.fn: Callable[[Any], _T] = fn
        self.full = full
