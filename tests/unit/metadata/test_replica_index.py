"""The replica index beside a plain model of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata import replica_index
from graviton.metadata.replica_index import KvReplicaIndex
from graviton.metadata.replica_rows import REPLICAS
from graviton.ports.replicas import Replica, ReplicaState
from tests.unit.metadata.filled import block

KEYS = sorted((block(number) for number in range(5)), key=lambda key: key.to_bytes())
PLACES = [Locator("file", bucket, path) for bucket in ("one", "two", "twofold") for path in ("x", "y")]


class Model:
    """Key to locator to (state, verified at)."""

    def __init__(self) -> None:
        self.copies: dict[BlockKey, dict[Locator, tuple[ReplicaState, int]]] = {}

    def update(self, key: BlockKey, locators: set[Locator]) -> None:
        old = self.copies.pop(key, {})
        if locators:
            self.copies[key] = {place: old.get(place, (ReplicaState.PRESENT, 0)) for place in locators}

    def mark(self, key: BlockKey, place: Locator, state: ReplicaState, at: int | None) -> bool:
        copies = self.copies.get(key, {})
        if place not in copies:
            return False
        copies[place] = (state, copies[place][1] if at is None else at)
        return True

    def all(self) -> list[Replica]:
        return [Replica(key, place, *at) for key, copies in self.copies.items() for place, at in copies.items()]

    def live(self, key: BlockKey) -> int:
        return sum(state is ReplicaState.PRESENT for state, _ in self.copies[key].values())


async def compare(index: KvReplicaIndex, model: Model) -> None:
    everything = model.all()
    for key in KEYS:
        copies = sorted((one for one in everything if one.key == key), key=lambda one: one.locator.text)
        assert await index.details(key) == copies
        assert await index.replicas(key) == {one.locator for one in copies}
    for copies in (0, 1, 2, 3, 100):
        short = [(key, model.live(key)) for key in KEYS if key in model.copies and model.live(key) < copies]
        assert [found async for found in index.short_of(copies)] == short
    for bucket in ("one", "two", "twofold", "nowhere"):
        found = [one async for one in index.in_sector(bucket)]
        assert [one.key for one in found] == sorted(one.key for one in found)
        assert set(found) == {one for one in everything if one.locator.bucket == bucket}
    oldest = [one async for one in index.oldest_verified()]
    assert [one.verified_at_ns for one in oldest] == sorted(one.verified_at_ns for one in oldest)
    assert set(oldest) == {one for one in everything if one.state is ReplicaState.PRESENT}
    assert len(oldest) == len(set(oldest))


keys, places = st.sampled_from(KEYS), st.sampled_from(PLACES)
updates = st.tuples(st.just("update"), keys, st.frozensets(places, max_size=4))
marks = st.tuples(st.just("mark"), keys, places, st.sampled_from(ReplicaState), st.none() | st.integers(0, 2**63 - 1))


@given(st.lists(updates | marks, max_size=25))
def test_index_agrees_with_the_model(steps: list[Any]) -> None:
    async def run() -> None:
        index, model = KvReplicaIndex(InMemoryKeyValueStore()), Model()
        for name, key, *rest in steps:
            if name == "update":
                await index.update(key, rest[0])
                model.update(key, set(rest[0]))
            else:
                assert await index.mark(key, *rest) == model.mark(key, *rest)
        await compare(index, model)

    asyncio.run(run())


async def test_forgotten_keys_leave_no_rows() -> None:
    kv = InMemoryKeyValueStore()
    index = KvReplicaIndex(kv)
    await index.update(KEYS[0], PLACES)
    await index.mark(KEYS[0], PLACES[0], ReplicaState.CORRUPT, 5)
    await index.update(KEYS[0], [])
    for name in await kv.namespaces():
        assert [row async for row in kv.scan(name)] == []


async def test_queries_page_through_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_index, "_PAGE", 7)
    index = KvReplicaIndex(InMemoryKeyValueStore())
    many = sorted((block(number) for number in range(600)), key=lambda key: key.to_bytes())
    for number, key in enumerate(many):
        await index.update(key, PLACES[: 1 + number % 3])
    assert [one.key async for one in index.in_sector("one")] == [
        key for number, key in enumerate(many) for _ in range(min(2, 1 + number % 3))
    ]
    assert [found async for found in index.short_of(3)] == [
        (key, 1 + number % 3) for number, key in enumerate(many) if number % 3 < 2
    ]
    assert len([one async for one in index.oldest_verified()]) == 1200


async def test_longest_locators_fit() -> None:
    place = Locator("s" * 64, "ü" * 256, "ü" * 2048)
    index = KvReplicaIndex(InMemoryKeyValueStore())
    await index.update(KEYS[0], [place])
    assert [one.locator async for one in index.in_sector("ü" * 256)] == [place]
    assert await index.replicas(KEYS[0]) == {place}


async def test_times_have_bounds() -> None:
    index = KvReplicaIndex(InMemoryKeyValueStore())
    await index.update(KEYS[0], PLACES)
    for time in (-1, 2**63):
        with pytest.raises(InvalidInput):
            await index.mark(KEYS[0], PLACES[0], ReplicaState.PRESENT, time)


@pytest.mark.parametrize("value", [b"", b"\x02", b"\x01\x09" + bytes(8) + b"file://a/x", b"\x01\x01" + bytes(8) + b"?"])
async def test_damaged_rows_are_an_integrity_error(value: bytes) -> None:
    kv = InMemoryKeyValueStore()
    index = KvReplicaIndex(kv)
    await index.update(KEYS[0], PLACES[:1])
    ((key, _),) = [row async for row in kv.scan(REPLICAS)]
    await kv.put(REPLICAS, key, value)
    with pytest.raises(IntegrityError):
        await index.details(KEYS[0])
    await kv.delete(REPLICAS, key)
    with pytest.raises(IntegrityError):
        [one async for one in index.in_sector("one")]
