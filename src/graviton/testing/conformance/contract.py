"""What all contracts share: a place per law, a factory, needs, known gaps.

A contract class holds the laws of one port as methods `async def test_…(self)`; they need nothing but `self.open()`.
The subclass of an implementation names it and gives the factory:

    class TestFilesystemBlocks(BlockStoreContract):
        implementation = FilesystemBlockStore

        def make_store(self) -> FilesystemBlockStore:
            return FilesystemBlockStore(self.scratch)

It gives no law of its own way: overriding a `test_` is refused when the class is made. A law that an implementation
does not keep yet goes to `known_gaps` and becomes an expected failure that must fail.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from graviton.ports.capabilities import Capabilities

__all__ = ["Contract", "laws_of", "needs", "optional_hook", "skip_reason"]

_S = TypeVar("_S")
_F = TypeVar("_F", bound=Callable[..., Any])

Need: TypeAlias = "str | Callable[[type[Contract[Any]]], str | None]"


def needs(*wanted: Need) -> Callable[[_F], _F]:
    """Mark a law that only holds for some: the law is skipped, with the reason shown, where a need is not met.

    A need is the name of a capability, the name of an optional hook that the subclass must override, the name of a
    class attribute that must be true, or a function from the contract class to the reason to skip (None: run).
    """

    def mark(law: _F) -> _F:
        law.__dict__["needs"] = wanted
        return law

    return mark


def optional_hook(method: _F) -> _F:
    """Mark a method that a subclass may override, and without which the laws that need it are skipped."""
    method.__dict__["optional_hook"] = True
    return method


class Contract(Generic[_S]):
    """Base of the contracts. One object per law and run."""

    port: ClassVar[type]
    """The port whose laws these are."""
    implementation: ClassVar[type | None] = None
    """The class under test; the guard that finds untested implementations reads it."""
    capabilities: ClassVar[Capabilities | None] = None
    """Which laws apply; by default what the implementation declares. Set it where that depends on the configuration,
    or where the port declares none (metadata over some key-value store)."""
    backend: ClassVar[str] = ""
    """Name of the outside thing needed, as in GRAVITON_REQUIRE_BACKENDS: `s3`, `postgres`. Empty: nothing."""
    known_gaps: ClassVar[Mapping[str, str]] = {}
    """Laws not kept yet, each with the reason."""

    scratch: Path
    """An empty folder for the law that runs; stores kept in files live below it."""
    space: str
    """A fresh name for the law that runs; stores kept elsewhere live below it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inherited = {name for base in cls.__mro__[1:] for name in vars(base) if name.startswith("test_")}
        for name in sorted(inherited.intersection(vars(cls))):
            raise TypeError(f"{cls.__qualname__} overrides the law {name}; use known_gaps = {{{name!r}: reason}}")
        for name, reason in cls.known_gaps.items():
            if not callable(getattr(cls, name, None)) or not name.startswith("test_"):
                raise TypeError(f"{cls.__qualname__}.known_gaps names {name}, which is no law of the contract")
            if not reason.strip():
                raise TypeError(f"{cls.__qualname__}.known_gaps gives no reason for {name}")
        if cls.implementation is not None and cls._found_capabilities() is None:
            raise TypeError(f"{cls.__qualname__} must say its capabilities: {cls.implementation.__name__} does not")

    # What a subclass gives.

    def make_store(self) -> _S | Awaitable[_S]:
        """Open the place of this run (`self.scratch`, `self.space`); every call opens the same one."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no make_store")

    @classmethod
    def unavailable(cls) -> str | None:
        """Why the backend cannot be reached here, or None. Asked once per class."""
        return None

    async def set_up(self) -> None:
        """Prepare the place, before the first `make_store`."""

    async def tear_down(self) -> None:
        """Remove what lies outside `scratch`, after all stores were closed."""

    # What laws use.

    async def open(self) -> _S:
        """A store from the factory; closed when the law ends."""
        made = self.make_store()
        store: _S = await made if inspect.isawaitable(made) else made
        self._opened.append(store)
        return store

    async def reopen(self, store: _S) -> _S:
        """Close `store` and open its place again."""
        await close(store)
        self._opened.remove(store)
        return await self.open()

    @asynccontextmanager
    async def running(self, scratch: Path) -> AsyncIterator[None]:
        """Around one law: gives it a place, closes its stores, and checks that no task is left behind."""
        self.scratch = scratch
        self.space = f"conformance-{secrets.token_hex(8)}"
        self._opened: list[_S] = []
        before = asyncio.all_tasks()
        await self.set_up()
        try:
            yield
        finally:
            for store in reversed(self._opened):
                await close(store)
            await self.tear_down()
        left = await _unfinished(before)
        assert not left, f"tasks left behind: {left}"

    @classmethod
    def declared(cls) -> Capabilities:
        """The capabilities that choose the laws."""
        return cls._found_capabilities() or Capabilities()

    @classmethod
    def _found_capabilities(cls) -> Capabilities | None:
        if cls.capabilities is not None:
            return cls.capabilities
        found = getattr(cls.implementation, "capabilities", None)
        return found if isinstance(found, Capabilities) else None


async def close(store: object) -> None:
    """Close a store if its port has something to close."""
    aclose = getattr(store, "aclose", None)
    if aclose is not None:
        await aclose()


async def _unfinished(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Tasks begun since that do not end by themselves in a moment (a cancelled one needs a turn to notice)."""
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=1.0)
    return left


def laws_of(contract: type[Contract[Any]]) -> dict[str, Callable[..., Awaitable[None]]]:
    """The laws by name, in the order in which they are written, those of the port's first."""
    return {
        name: getattr(contract, name)
        for base in reversed(contract.__mro__)
        for name in vars(base)
        if name.startswith("test_")
    }


def skip_reason(contract: type[Contract[Any]], law: str) -> str | None:
    """Why `law` does not apply to the implementation of `contract`, or None."""
    for need in getattr(getattr(contract, law), "needs", ()):
        reason = need(contract) if callable(need) else _lacks(contract, need)
        if reason is not None:
            return reason
    return None


def _lacks(contract: type[Contract[Any]], need: str) -> str | None:
    if need in Capabilities._fields:
        return None if getattr(contract.declared(), need) else f"the capability {need} is not declared"
    found = getattr(contract, need)
    if getattr(found, "optional_hook", False):
        return f"the contract class gives no {need}"
    return None if found else f"{contract.__name__}.{need} is not set"
