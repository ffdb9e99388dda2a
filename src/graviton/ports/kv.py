"""`KeyValueStore`: ordered bytes under bytes, in namespaces, with transactions that are ordinary synchronous code.

Laws:
- A namespace (name `[a-z][a-z0-9_]{0,30}`) exists from the first change that puts something into it; reading one that
  does not exist finds nothing and does not create it. Namespaces share nothing. A key is 1 to 1,024 bytes, a value 0 to
  `capabilities.max_value_bytes`. A bad name or key raises InvalidInput (also on reads), a larger value LimitExceeded,
  and nothing is written. `get` of a missing key is None; an empty value is a value.
- Order is that of unsigned bytes. `scan` yields the pairs whose key begins with `prefix` and is greater than `after`
  (a whole key, or None for the beginning), in key order, at most `limit` of them; `after` need not exist nor begin with
  `prefix`. Between the pages of a store's `scan` other writers may be seen.
- `transact(fn)` runs `fn(tx)` in one serialisable transaction: it reads its own writes, and takes effect as a whole
  when `fn` returns or not at all when it raises; the exception comes back to the caller (StopIteration as Python's
  RuntimeError for it, what is no Exception perhaps as Unavailable). `fn` runs on the backend's own thread, must not
  block on anything else or keep `tx`, and may be run again after a conflict, so it has no other effects. Its result
  is the result of the run that took effect.
- `read(fn)` runs `fn(tx)` against one snapshot; writes through `tx` raise Unsupported.
- When `transact(durability=FULL)` or a single change of the store returns, it is as durable as `capabilities`
  says. After RELAXED it is visible to everybody at once and survives the end of the process, but may be lost with
  the power, never without losing all that was written after it too: a later FULL change makes it durable.
- A cancelled call has either happened or not, as a whole.
- Waiting for another writer beyond the backend's limit raises Unavailable; damaged files raise IntegrityError; no room
  StorageFull; a read-only place PermissionDenied on the first write, never on reads.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from graviton.errors import InvalidInput, LimitExceeded, Unsupported
from graviton.ports.capabilities import Capabilities

__all__ = [
    "Change",
    "Delete",
    "DeleteRange",
    "Durability",
    "KeyValueStore",
    "Put",
    "ReadTransaction",
    "RefusedWrites",
    "Transaction",
    "apply_changes",
    "check_key",
    "check_namespace",
    "check_value",
    "prefix_end",
]

_T = TypeVar("_T")
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,30}")

MAX_KEY_BYTES = 1024
"""Longest key: what every backend can index (PostgreSQL's btree stops at a third of its 8 KiB page)."""

SCAN_PAGE = 512
"""Pairs fetched per page by `scan`: one thread hop (up to 125 us) per page is then noise."""


class Durability(Enum):
    """What a transaction waits for."""

    FULL = "full"
    RELAXED = "relaxed"


class Put(NamedTuple):
    """One write of a batch."""

    namespace: str
    key: bytes
    value: bytes


class Delete(NamedTuple):
    """One removal of a batch."""

    namespace: str
    key: bytes


class DeleteRange(NamedTuple):
    """One removal of a batch: of every key from `start` on that is smaller than `end` (None: all of them)."""

    namespace: str
    start: bytes
    end: bytes | None = None


Change = Put | Delete | DeleteRange
"""What a batch is made of."""


class ReadTransaction(Protocol):
    """A consistent view, valid only inside the function it was given to."""

    def get(self, namespace: str, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        ...

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each key, in the order given (repeats allowed); cheaper than one by one."""
        ...

    def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in key order; see the module docstring. The pairs seen are those at the time of the call or later in
        the same transaction: finish or drop the iterator before writing to its namespace."""
        ...


class Transaction(ReadTransaction, Protocol):
    """A view that can be changed."""

    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""
        ...

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Set many keys of one namespace; cheaper than one by one."""
        ...

    def delete_many(self, namespace: str, keys: Sequence[bytes]) -> None:
        """Remove many keys of one namespace, whether they are there or not."""
        ...

    def delete(self, namespace: str, key: bytes) -> bool:
        """Remove `key`; whether it was there."""
        ...

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        """Remove every key from `start` on that is smaller than `end` (None: all of them); neither need be a key.
        `start = prefix, end = prefix_end(prefix)` are the keys that begin with a prefix."""
        ...


class RefusedWrites:
    """For views of backends that only read: what a `Transaction` has beyond a `ReadTransaction` raises Unsupported."""

    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        raise self._refusal()

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        raise self._refusal()

    def delete(self, namespace: str, key: bytes) -> bool:
        raise self._refusal()

    def delete_many(self, namespace: str, keys: Sequence[bytes]) -> None:
        raise self._refusal()

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        raise self._refusal()

    @staticmethod
    def _refusal() -> Unsupported:
        return Unsupported("a read-only transaction cannot write", operation="kv.read")


class KeyValueStore(ABC):
    """Ordered key-value storage; see the module docstring for the laws."""

    capabilities: Capabilities = Capabilities()

    @abstractmethod
    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        """Run `fn` in one transaction. Raises what `fn` raises; Unavailable, StorageFull, IntegrityError,
        PermissionDenied, LimitExceeded."""

    @abstractmethod
    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        """Run `fn` against one snapshot."""

    @abstractmethod
    async def namespaces(self) -> list[str]:
        """Names of the namespaces that exist, sorted."""

    async def put(self, namespace: str, key: bytes, value: bytes) -> None:
        """Set one key, durably."""
        await self.transact(lambda tx: tx.put(namespace, key, value))

    async def get(self, namespace: str, key: bytes) -> bytes | None:
        """The value under one key, or None."""
        return await self.read(lambda tx: tx.get(namespace, key))

    async def delete(self, namespace: str, key: bytes) -> bool:
        """Remove one key, durably; whether it was there."""
        return await self.transact(lambda tx: tx.delete(namespace, key))

    async def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        """Remove many keys, durably; see `Transaction.delete_range`."""
        await self.transact(lambda tx: tx.delete_range(namespace, start, end))

    async def batch(self, operations: Sequence[Change]) -> None:
        """Apply all of `operations` in their order, or none."""
        await self.transact(lambda tx: apply_changes(tx, operations))

    async def compare_and_set(self, namespace: str, key: bytes, expected: bytes | None, value: bytes | None) -> bool:
        """Set `key` to `value` (None: remove it) if its value is `expected` (None: absent); whether it was done."""

        def swap(tx: Transaction) -> bool:
            if tx.get(namespace, key) != expected:
                return False
            if value is not None:
                tx.put(namespace, key, value)
            elif expected is not None:
                tx.delete(namespace, key)
            return True

        return await self.transact(swap)

    async def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Pairs in key order, fetched a page at a time."""
        position = after
        while True:
            page = await self.read(partial(_page, namespace, prefix, position))
            for pair in page:
                yield pair
            if len(page) < SCAN_PAGE:
                return
            position = page[-1][0]

    async def check(self) -> list[str]:
        """What is wrong with the files of the store itself, below its pairs: a sentence each, none if they are sound or
        are somebody else's to look after. May take as long as reading all of them."""
        return []

    async def aclose(self) -> None:
        """Give back threads and handles. Idempotent; using the store afterwards raises Unavailable."""


def apply_changes(tx: Transaction, operations: Sequence[Change]) -> None:
    """Do what a batch says, in its order."""
    for operation in operations:
        if isinstance(operation, Put):
            tx.put(operation.namespace, operation.key, operation.value)
        elif isinstance(operation, Delete):
            tx.delete(operation.namespace, operation.key)
        else:
            tx.delete_range(operation.namespace, operation.start, operation.end)


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key that begins with `prefix`; None if there is none."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,)) if trimmed else None


def check_namespace(namespace: str) -> None:
    """Raise InvalidInput unless `namespace` is a legal name; shared by all backends, so that all refuse the same."""
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(
            f"a namespace is a small letter and up to 30 of a-z, 0-9 and _, not {namespace[:80]!r}",
            subject=namespace[:80],
        )


def check_key(key: bytes) -> None:
    """Raise InvalidInput unless `key` has a legal length."""
    if not 1 <= len(key) <= MAX_KEY_BYTES:
        raise InvalidInput(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {len(key)}", subject=key[:32].hex())


def check_value(value: bytes, max_bytes: int) -> None:
    """Raise LimitExceeded if `value` is larger than the store's `capabilities.max_value_bytes`."""
    if len(value) > max_bytes:
        raise LimitExceeded(f"a value has at most {max_bytes} bytes here, not {len(value)}")


def _page(namespace: str, prefix: bytes, after: bytes | None, tx: ReadTransaction) -> list[tuple[bytes, bytes]]:
    return list(tx.scan(namespace, prefix, after, SCAN_PAGE))
