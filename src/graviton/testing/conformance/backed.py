"""Contracts of ports that have nothing to close themselves and may lie over something that has."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from graviton.testing.conformance.contract import Contract

__all__ = ["BackedContract"]

_P = TypeVar("_P")


class BackedContract(Contract[Any], Generic[_P]):
    """`make_store` opens the backend (a key-value store, a database), which is closed with its `aclose`; `make_port`
    gives the port over it. Where the port is a backend of its own, `make_store` alone is enough."""

    def make_port(self, store: Any) -> _P:
        """The port under test over the open backend."""
        port: _P = store
        return port

    async def open_port(self) -> _P:
        """The port over a backend that is closed when the law ends."""
        return self.make_port(await self.open())

    async def reopened(self) -> _P:
        """The port, after the backend opened last was closed and its place opened again."""
        return self.make_port(await self.reopen(self._opened[-1]))
