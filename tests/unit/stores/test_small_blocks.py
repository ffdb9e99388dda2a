"""Chunkers that make very small blocks: their number per step is bounded, and the memory with it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobSource
from graviton.stores.segments import MAX_STEP_BLOCKS
from tests.support import World

SPEC = ChunkerSpec.parse("fixed:64")
DATA = bytes(8 * 1024 * 1024)

PEAK_BYTES = 20 * 1024 * 1024
"""Python objects at most. Measured: 7 MB, 14 MB for two groups at once; 42 MB and more when a step could have 131,072
blocks."""


@pytest.fixture
def world(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> World:
    """A store that notes the blocks per step in `steps` and, before a commit, the peak of memory in `peaks`."""
    world = World(kernel, spec=SPEC)
    world.steps, world.peaks = [], []  # type: ignore[attr-defined]
    claim, open_, commit = world.index.claim, world.index.open, world.manifests.commit

    async def claiming(session: int, keys: Sequence[Any]) -> Any:
        world.steps.append(len(keys))  # type: ignore[attr-defined]
        return await claim(session, keys)

    async def opening(groups: Sequence[Sequence[Any]], domain: str = "") -> Any:
        world.steps.append(sum(map(len, groups)))  # type: ignore[attr-defined]
        return await open_(groups, domain)

    async def committing(commits: Sequence[Any]) -> Any:
        world.peaks.append(tracemalloc.get_traced_memory()[1])  # type: ignore[attr-defined]
        return await commit(commits)

    monkeypatch.setattr(world.index, "claim", claiming)
    monkeypatch.setattr(world.index, "open", opening)
    monkeypatch.setattr(world.manifests, "commit", committing)
    return world


async def _put(world: World, source: BlobSource) -> BlobKey:
    return (await world.store.put(source)).key


async def _put_many(world: World, source: bytes) -> BlobKey:
    pieces = [source[start : start + 256 * 1024] for start in range(0, len(source), 256 * 1024)]
    keys = [result.key async for result in world.store.put_many(pieces)]
    return keys[-1]


@pytest.mark.parametrize(
    "put",
    [
        lambda world: _put(world, DATA),
        lambda world: _put(world, iter([DATA])),
        lambda world: _put_many(world, DATA),
    ],
    ids=["bytes", "pieces", "many"],
)
async def test_the_blocks_of_a_step_are_bounded(world: World, put: Callable[[World], Any]) -> None:
    await world.store.put(DATA[:64])
    tracemalloc.start()
    try:
        key = await put(world)
    finally:
        tracemalloc.stop()
    async with await world.store.get(key) as reader:
        assert await reader.read() == DATA[: key.size]
    assert max(world.steps) <= MAX_STEP_BLOCKS + 1  # type: ignore[attr-defined]
    assert max(world.peaks) < PEAK_BYTES  # type: ignore[attr-defined]
    assert world.budget.used == 0
