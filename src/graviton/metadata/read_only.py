"""Metadata stores that somebody closed for changes: because they are being moved, or were moved elsewhere.

One row says so, whoever has the store open looks at it inside each transaction that may write, and only `change_gate`
gets past it. docs/metadata-copy.md.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeVar

from graviton.errors import GravitonError, IntegrityError, Retired, Unavailable
from graviton.metadata.rows import STORE
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

__all__ = ["READ_ONLY_KEY", "GuardedKeyValueStore", "MetadataStore", "ReadOnly", "ReadOnlyState", "read_only_row"]

READ_ONLY_KEY = b"read_only"
"""Key in the namespace `store` that is there while nobody may change the metadata."""

_T = TypeVar("_T")


class ReadOnlyState(Enum):
    """Why nobody may write."""

    MOVING = "moving"
    """A copy is at its last pass, or was killed in it."""
    MOVED = "moved"
    """The other store is in use."""


class ReadOnly(NamedTuple):
    """What the row says."""

    state: ReadOnlyState
    place: str
    """Where the other store is, for people, without secrets."""
    settings: str
    """What to set so that it is used."""
    metadata_id: str
    """That of the other store."""
    run: str
    """32 hex digits of the copy that wrote it: another one that takes over writes its own."""
    since_ns: int
    """UTC nanoseconds."""

    def encode(self) -> bytes:
        """The stored form: one JSON object."""
        return json.dumps(self._asdict() | {"state": self.state.value}, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> ReadOnly:
        """Inverse of `encode`. Raises IntegrityError."""
        try:
            fields = json.loads(data)
            made = cls(**fields | {"state": ReadOnlyState(fields["state"])})
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"the row that says why this metadata store is read-only is damaged: {error}", subject="read_only"
            ) from error
        return made

    def refusal(self, where: str = "") -> GravitonError:
        """What whoever wants to change the store (at `where`, if that is to be told) is told."""
        what = f"the metadata at {where}" if where else "the metadata"
        if self.state is ReadOnlyState.MOVED:
            return Retired(
                f"{what} was moved to {self.place}, and takes no changes where it was",
                operation="metadata.write",
                subject=self.place,
                hint=f"Set {self.settings}.",
            )
        return Unavailable(
            f"{what} is being moved to {self.place}, and takes no changes until that is done",
            operation="metadata.write",
            subject=self.place,
            hint="Wait for `graviton meta copy`. If it was killed, run it again, or give up with --abort.",
        )


def read_only_row(tx: ReadTransaction) -> ReadOnly | None:
    """What keeps people from writing, if anything does."""
    data = tx.get(STORE, READ_ONLY_KEY)
    return None if data is None else ReadOnly.decode(data)


class MetadataStore(KeyValueStore):
    """All metadata of a store as pairs, which can be closed for changes. A change of a closed one raises Retired or
    Unavailable, whoever opened it when, and whichever port it comes through."""

    keeps_derived_rows = True
    """Rows that follow from others (`claims`, indexes of copies) are rows of their own, and written as such."""

    @property
    @abstractmethod
    def past_gate(self) -> KeyValueStore:
        """The same pairs for whoever closed the store, whose changes are not refused. Not to be closed by itself."""

    @abstractmethod
    async def change_gate(self, fn: Callable[[Transaction], _T]) -> _T:
        """Run `fn`, which may change the row READ_ONLY_KEY, in one durable transaction that is not refused. When it has
        written the row, no other change is under way any more. `fn` comes to the same when it is run twice."""

    @abstractmethod
    async def check_gate(self) -> None:
        """Raise PermissionDenied if `change_gate` would for want of rights."""


class GuardedKeyValueStore(MetadataStore):
    """Any key-value store of pairs alone: the row is looked at first in each transaction that may write."""

    def __init__(self, inner: KeyValueStore) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        def guarded(tx: Transaction) -> _T:
            data = tx.get(STORE, READ_ONLY_KEY)
            if data is not None:
                raise ReadOnly.decode(data).refusal()
            return fn(tx)

        return await self.inner.transact(guarded, durability)

    @property
    def past_gate(self) -> KeyValueStore:
        return self.inner

    async def change_gate(self, fn: Callable[[Transaction], _T]) -> _T:
        return await self.inner.transact(fn)

    async def check_gate(self) -> None:
        pass

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        return await self.inner.read(fn)

    async def namespaces(self) -> list[str]:
        return await self.inner.namespaces()

    async def check(self) -> list[str]:
        return await self.inner.check()

    async def aclose(self) -> None:
        await self.inner.aclose()
