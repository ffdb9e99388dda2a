"""A cache on a disk that is really full, or really read-only: readers do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graviton.testing.conformance.block_values import block
from tests.faults.harness.mounts import fill, may_mount, mounted, remount
from tests.unit.cache.caches import Cached, far, files

pytestmark = pytest.mark.skipif(not may_mount(), reason="mounting needs root and a system that lets it")

BLOCKS = [block(bytes([number]) * 100_000) for number in range(40)]


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, request.param, 12 << 20) as place:
        yield place


async def test_full_disk(disk: Path) -> None:
    root = disk / "cache"
    store = Cached(root, far(*BLOCKS), limit=64 << 20)
    await store.read(*BLOCKS[:10])
    hog = fill(disk, 350_000)
    await store.read(*BLOCKS, *BLOCKS)
    assert store.count("fills", outcome="failed") >= 30
    assert store.count("failures", operation="write", code="storage_full") >= 30
    found = files(root)
    assert 10 <= len(found) <= 14
    assert set(found.values()) == {100_000}, "no unfinished file stays behind"
    assert len(found) == len(store.keeper.policy)
    hog.unlink()
    await store.read(*BLOCKS)
    assert len(files(root)) == 40
    await store.aclose()


async def test_a_disk_that_is_full_when_the_cache_begins(disk: Path) -> None:
    hog = fill(disk, 0)
    store = Cached(disk / "cache", far(*BLOCKS), limit=64 << 20)
    await store.read(*BLOCKS[:5])
    await store.aclose()
    hog.unlink()
    store = Cached(disk / "cache", far(*BLOCKS), limit=64 << 20)
    await store.read(*BLOCKS[:5], *BLOCKS[:5])
    assert store.count("reads", outcome="hit") == 5
    await store.aclose()


async def test_read_only_disk(disk: Path) -> None:
    root = disk / "cache"
    store = Cached(root, far(*BLOCKS), limit=64 << 20)
    await store.read(*BLOCKS[:10])
    await store.aclose()
    remount(disk, "ro")
    inner = far(*BLOCKS)
    store = Cached(root, inner, limit=64 << 20)
    await store.read(*BLOCKS[:20])
    assert store.count("reads", outcome="hit") == 10
    assert store.count("failures", operation="open", code="permission_denied") == 1
    await store.aclose()
    remount(disk, "rw")
