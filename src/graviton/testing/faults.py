"""Scripted, counted faults: say which call fails and how, run, and check that every planned fault really happened.

    plan = FaultPlan()
    plan.fail("transact", call=3, error=Unavailable("planned"))
    store = FaultyKeyValueStore(inner, plan)
    ...
    plan.assert_all_happened()

Calls are counted per method, from 1. A fault happens before the call reaches the inner store, or, with `after=True`,
when it has taken effect and its reply is lost. Methods are those of the port that the user calls: `put` of a
`KeyValueStore` counts as `put`, not as `transact`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.ports.blocks import DEFAULT_WRITE_PLAN, BlockBatchResult, BlockStore, BlockWritePlan, CanonicalBlock
from graviton.ports.kv import Change, Durability, KeyValueStore, ReadTransaction, Transaction
from graviton.ports.objects import MutableObjectStore, ObjectSource, ObjectStat

__all__ = ["FaultPlan", "FaultyBlockStore", "FaultyKeyValueStore", "FaultyObjectStore", "Hold"]

_T = TypeVar("_T")


class Hold:
    """A call that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Set when the call has come."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let the call go on."""
        self._released.set()

    async def wait(self) -> None:
        """What the call does."""
        self.reached.set()
        await self._released.wait()


class _Fault:
    def __init__(self, act: Callable[[], Awaitable[None]], after: bool) -> None:
        self.act = act
        self.after = after
        self.happened = False


class FaultPlan:
    """What is to go wrong, and what has."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """Calls made so far, per method."""
        self._faults: dict[tuple[str, int], _Fault] = {}

    def fail(self, method: str, call: int, error: BaseException, *, after: bool = False) -> None:
        """Let the `call`-th call of `method` raise `error`; with `after` only once it has taken effect."""

        async def act() -> None:
            raise error

        self._plan(method, call, act, after)

    def delay(self, method: str, call: int, seconds: float, *, after: bool = False) -> None:
        """Let that call take `seconds` longer."""

        async def act() -> None:
            await asyncio.sleep(seconds)

        self._plan(method, call, act, after)

    def hold(self, method: str, call: int, *, after: bool = False) -> Hold:
        """Let that call wait until the test releases it."""
        hold = Hold()
        self._plan(method, call, hold.wait, after)
        return hold

    def assert_all_happened(self) -> None:
        """Fail unless every planned fault has happened: a fault that never came tests nothing."""
        missing = [f"{method} call {call}" for (method, call), fault in self._faults.items() if not fault.happened]
        if missing:
            raise AssertionError(f"planned faults that never happened: {missing}; calls made: {dict(self.calls)}")

    def _plan(self, method: str, call: int, act: Callable[[], Awaitable[None]], after: bool) -> None:
        if method not in _METHODS:
            raise ValueError(f"no store has a method {method!r}")
        if call <= self.calls[method] or (method, call) in self._faults:
            raise ValueError(f"call {call} of {method} is over or has its fault already")
        self._faults[method, call] = _Fault(act, after)

    async def around(self, method: str, run: Callable[[], Awaitable[_T]]) -> _T:
        """Count a call and run it with what is planned for it."""
        fault = self.begin(method)
        await self._act(fault, after=False)
        result = await run()
        await self._act(fault, after=True)
        return result

    def begin(self, method: str) -> _Fault | None:
        """Count a call; what is planned for it."""
        self.calls[method] += 1
        return self._faults.get((method, self.calls[method]))

    async def _act(self, fault: _Fault | None, after: bool) -> None:
        if fault is not None and fault.after is after:
            fault.happened = True
            await fault.act()

    async def around_items(self, method: str, items: AsyncIterator[_T]) -> AsyncIterator[_T]:
        """The same for an iteration: before its first item or after its last."""
        fault = self.begin(method)
        await self._act(fault, after=False)
        async for item in items:
            yield item
        await self._act(fault, after=True)


class FaultyKeyValueStore(KeyValueStore):
    """`inner`, with the faults of `plan`."""

    def __init__(self, inner: KeyValueStore, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan
        self.capabilities = inner.capabilities

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        return await self.plan.around("transact", lambda: self.inner.transact(fn, durability))

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        return await self.plan.around("read", lambda: self.inner.read(fn))

    async def namespaces(self) -> list[str]:
        return await self.plan.around("namespaces", self.inner.namespaces)

    async def put(self, namespace: str, key: bytes, value: bytes) -> None:
        await self.plan.around("put", lambda: self.inner.put(namespace, key, value))

    async def get(self, namespace: str, key: bytes) -> bytes | None:
        return await self.plan.around("get", lambda: self.inner.get(namespace, key))

    async def delete(self, namespace: str, key: bytes) -> bool:
        return await self.plan.around("delete", lambda: self.inner.delete(namespace, key))

    async def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        await self.plan.around("delete_range", lambda: self.inner.delete_range(namespace, start, end))

    async def batch(self, operations: Sequence[Change]) -> None:
        await self.plan.around("batch", lambda: self.inner.batch(operations))

    async def compare_and_set(self, namespace: str, key: bytes, expected: bytes | None, value: bytes | None) -> bool:
        return await self.plan.around(
            "compare_and_set", lambda: self.inner.compare_and_set(namespace, key, expected, value)
        )

    async def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        async for pair in self.plan.around_items("scan", self.inner.scan(namespace, prefix, after)):
            yield pair

    async def check(self) -> list[str]:
        return await self.plan.around("check", self.inner.check)

    async def aclose(self) -> None:
        await self.plan.around("aclose", self.inner.aclose)


class FaultyBlockStore(BlockStore):
    """`inner`, with the faults of `plan`."""

    def __init__(self, inner: BlockStore, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan
        self.capabilities = inner.capabilities

    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        return await self.plan.around("put_blocks", lambda: self.inner.put_blocks(blocks, plan))

    async def get(self, key: BlockKey) -> bytes:
        return await self.plan.around("get", lambda: self.inner.get(key))

    async def exists_many(self, keys: Sequence[BlockKey]) -> list[bool]:
        return await self.plan.around("exists_many", lambda: self.inner.exists_many(keys))

    async def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        async for key in self.plan.around_items("list", self.inner.list(prefix)):
            yield key

    async def aclose(self) -> None:
        await self.plan.around("aclose", self.inner.aclose)


class FaultyObjectStore(MutableObjectStore):
    """`inner`, with the faults of `plan`. The methods count under names of their own: `put_object` and the like."""

    def __init__(self, inner: MutableObjectStore, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan
        self.capabilities = inner.capabilities

    async def head(self, locator: Locator) -> ObjectStat | None:
        return await self.plan.around("head_object", lambda: self.inner.head(locator))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        async for stat in self.plan.around_items("list_objects", self.inner.list(prefix)):
            yield stat

    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        return await self.plan.around("get_object", lambda: self.inner.get(locator, span))

    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        return await self.plan.around("put_object", lambda: self.inner.put(locator, source))

    async def delete(self, locator: Locator) -> bool:
        return await self.plan.around("delete_object", lambda: self.inner.delete(locator))

    async def copy(self, source: Locator, target: Locator) -> ObjectStat:
        return await self.plan.around("copy_object", lambda: self.inner.copy(source, target))

    async def aclose(self) -> None:
        await self.plan.around("aclose", self.inner.aclose)


_METHODS = {f"{verb}_object" for verb in ("head", "get", "put", "delete", "copy")} | {
    "list_objects",
    *(
        name
        for cls in (FaultyKeyValueStore, FaultyBlockStore)
        for name, member in vars(cls).items()
        if callable(member) and not name.startswith("_")
    ),
}
