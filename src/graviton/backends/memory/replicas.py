"""`InMemoryReplicaIndex`: the reference for `ReplicaIndex`. Every query looks at everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Set

from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.ports.replicas import Replica, ReplicaIndex, ReplicaState

__all__ = ["InMemoryReplicaIndex"]


class InMemoryReplicaIndex(ReplicaIndex):
    """Copies per key, gone with the object; for the tasks of one event loop."""

    def __init__(self) -> None:
        self._copies: dict[BlockKey, dict[Locator, Replica]] = {}

    async def replicas(self, key: BlockKey) -> Set[Locator]:
        return frozenset(self._copies.get(key, {}))

    async def update(self, key: BlockKey, locators: Iterable[Locator]) -> None:
        before = self._copies.pop(key, {})
        after = {locator: before.get(locator, Replica(key, locator, ReplicaState.PRESENT, 0)) for locator in locators}
        if after:
            self._copies[key] = after

    async def mark(
        self, key: BlockKey, locator: Locator, state: ReplicaState, verified_at_ns: int | None = None
    ) -> bool:
        old = self._copies.get(key, {}).get(locator)
        if old is None:
            return False
        verified = old.verified_at_ns if verified_at_ns is None else verified_at_ns
        self._copies[key][locator] = Replica(key, locator, state, verified)
        return True

    async def details(self, key: BlockKey) -> list[Replica]:
        return sorted(self._copies.get(key, {}).values(), key=lambda replica: replica.locator.text)

    async def short_of(self, copies: int) -> AsyncIterator[tuple[BlockKey, int]]:
        for key in sorted(self._copies):
            live = sum(replica.state is ReplicaState.PRESENT for replica in await self.details(key))
            if key in self._copies and live < copies:
                yield key, live

    async def in_sector(self, bucket: str) -> AsyncIterator[Replica]:
        for key in sorted(self._copies):
            for replica in await self.details(key):
                if replica.locator.bucket == bucket:
                    yield replica

    async def oldest_verified(self) -> AsyncIterator[Replica]:
        live = [
            replica
            for copies in self._copies.values()
            for replica in copies.values()
            if replica.state is ReplicaState.PRESENT
        ]
        for replica in sorted(live, key=lambda replica: replica.verified_at_ns):
            yield replica
