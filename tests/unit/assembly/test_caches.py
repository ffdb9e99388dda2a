"""A store with a cache: who reads through it, who looks below, and what the settings say."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import graviton
from graviton.assembly.cache_settings import DEFAULT_CACHE_BYTES, CacheSettings
from graviton.assembly.caches import check_cache
from graviton.assembly.settings import Settings, settings_from
from graviton.backends.filesystem import FsBlockStore
from graviton.backends.filesystem.cache_folder import FsCacheFolder
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.errors import ConfigError, IntegrityError, InvalidInput
from graviton.ports.metrics import MetricKeys
from graviton.services.blob_check import VerifyParts
from graviton.services.doctor import Level
from graviton.services.findings import Damage
from graviton.services.verify import Verification

DATA = os.urandom(3_000_000)


def cached_store(tmp_path: Path, metrics: InMemoryMetrics | None = None) -> graviton.Store:
    return graviton.open(tmp_path / "store", cache=tmp_path / "cache", cache_bytes=64 << 20, metrics=metrics)


def blocks_below(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "store/cas/blocks/blake3").iterdir())


async def read(store: graviton.Store, key: graviton.BlobKey) -> bytes:
    async with await store.get(key) as reader:
        return await reader.read()


async def warmed(tmp_path: Path) -> graviton.BlobKey:
    async with cached_store(tmp_path) as store:
        key = (await store.put(DATA)).key
        assert not (tmp_path / "cache").exists(), "puts fill nothing"
        assert await read(store, key) == DATA
    assert len(list((tmp_path / "cache/blocks/blake3").iterdir())) == len(blocks_below(tmp_path)) > 1
    return key


async def test_reads_come_from_the_cache_also_in_the_next_process(tmp_path: Path) -> None:
    key = await warmed(tmp_path)
    (tmp_path / "store/cas/blocks/blake3").rename(tmp_path / "gone")
    metrics = InMemoryMetrics()
    async with cached_store(tmp_path, metrics) as store:
        assert await read(store, key) == DATA
    outcomes = {
        series.labels: value
        for series, value in metrics.snapshot().counters.items()
        if series.name == MetricKeys.CACHE_READS.value
    }
    assert outcomes == {(("outcome", "hit"),): len(list((tmp_path / "gone").iterdir()))}


async def test_verification_looks_below_the_cache_and_the_next_put_repairs(tmp_path: Path) -> None:
    key = await warmed(tmp_path)
    lost, bad = blocks_below(tmp_path)[:2]
    lost.unlink()
    bad.chmod(0o600)
    bad.write_bytes(bytes(bad.stat().st_size))
    found: list[Damage] = []
    async with cached_store(tmp_path) as store:
        assert await read(store, key) == DATA, "here it can still be read"
        cas = await store.required()
        parts = VerifyParts(await store.metadata(), cas.index, cas.manifests, cas.blocks, cas.access, cas.budget)
        async with Verification(parts, found.append) as run:
            await run.blobs([key])
        assert {damage.block.hex for damage in found if damage.block} == {
            path.name.partition("-")[0] for path in (lost, bad)
        }
        assert isinstance(store.sides.blocks, FsBlockStore), "what maintenance is given is never the cached one"
        await store.put(DATA)
        found.clear()
        async with Verification(parts, found.append) as run:
            await run.blobs([key])
        assert found == []


async def test_a_damaged_original_that_is_not_cached_is_reported_as_without_a_cache(tmp_path: Path) -> None:
    key = await warmed(tmp_path)
    lost = blocks_below(tmp_path)[0]
    lost.unlink()
    (tmp_path / f"cache/blocks/blake3/{lost.name}.cached").unlink()
    async with cached_store(tmp_path) as store:
        with pytest.raises(IntegrityError, match="is missing"):
            await read(store, key)
        assert (await store.put(DATA)).stats.fresh_blocks == 1, "it was marked, so the put writes it"
        assert await read(store, key) == DATA


async def test_stores_of_one_process_share_the_cache_and_agree_on_its_size(tmp_path: Path) -> None:
    key = await warmed(tmp_path)
    first, second = cached_store(tmp_path), cached_store(tmp_path)
    other = graviton.open(tmp_path / "other", cache=tmp_path / "cache", cache_bytes=64 << 20)
    async with first, second, other:
        assert await read(first, key) == DATA
        assert await read(second, key) == DATA
        theirs = (await other.put(DATA[:100_000])).key
        assert await read(other, theirs) == DATA[:100_000]
        await first.aclose()
        assert await read(second, key) == DATA
        with pytest.raises(ConfigError, match="67108864 bytes"):
            async with graviton.open(tmp_path / "store", cache=tmp_path / "cache", cache_bytes=65 << 20) as wrong:
                await read(wrong, key)
        assert FsCacheFolder(tmp_path / "cache").keeper() == str(os.getpid())
    assert FsCacheFolder(tmp_path / "cache").keeper() is None


async def test_a_reader_that_is_left_lets_go_of_everything(tmp_path: Path) -> None:
    key = await warmed(tmp_path)
    async with cached_store(tmp_path) as store:
        for _ in range(20):
            reader = await store.get(key)
            async for _ in reader:
                break
            await reader.aclose()
        assert await read(store, key) == DATA
        cas = await store.required()
        await asyncio.sleep(0)
        assert cas.budget.used == 0


FORKS = """
import asyncio, os, sys
from pathlib import Path
from graviton.assembly.cache_settings import CacheSettings
from graviton.assembly.caches import cached
from graviton.constraints.budget import ByteBudget
from tests.unit.cache.caches import blocks_of_8k, far

blocks, budget, settings = blocks_of_8k(3), ByteBudget(), CacheSettings(Path(sys.argv[1]))

async def read(store, fetches):
    for one in blocks:
        assert await store.get(one.key) == one.payload
    await store._cache.settled()
    assert store._inner.fetched == fetches, store._inner.fetched

store = cached(far(*blocks), settings, budget, None)
asyncio.run(read(store, 3))
child = os.fork()
if child == 0:
    asyncio.run(read(cached(far(*blocks), settings, budget, None), 0))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
asyncio.run(read(store, 3))
asyncio.run(store.aclose())
"""


def test_a_child_made_by_fork_has_a_cache_of_its_own(tmp_path: Path) -> None:
    repository = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{repository}/src:{repository}"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(tmp_path)],
        env=environment,
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "GRAVITON_BLOB_BACKEND": "s3",
        "GRAVITON_CACHE_ROOT": str(tmp_path),
    }


def test_settings_name_the_cache(tmp_path: Path, environment: dict[str, str]) -> None:
    settings = settings_from(environment)
    assert settings.cache == CacheSettings(tmp_path, DEFAULT_CACHE_BYTES)
    assert settings.warnings == ()
    settings = settings_from(environment | {"GRAVITON_CACHE_BYTES": "1GiB"})
    assert settings.cache == CacheSettings(tmp_path, 1 << 30)
    assert settings_from(environment | {"GRAVITON_CACHE_BYTES": "0"}).cache is None


@pytest.mark.parametrize("size", ["1", "63MiB", "lots"])
def test_too_small_a_cache_is_refused(environment: dict[str, str], size: str) -> None:
    with pytest.raises(ConfigError, match="GRAVITON_CACHE_BYTES"):
        settings_from(environment | {"GRAVITON_CACHE_BYTES": size})


def test_a_cache_of_what_is_near_anyway_is_warned_of(tmp_path: Path) -> None:
    for backend in ("fs", "memory"):
        settings = settings_from({"GRAVITON_BLOB_BACKEND": backend, "GRAVITON_CACHE_ROOT": str(tmp_path)})
        assert settings.cache is not None
        assert "GRAVITON_CACHE_ROOT" in settings.warnings[0]
    settings = settings_from({"GRAVITON_CACHE_BYTES": "1GiB"})
    assert settings == Settings(warnings=("GRAVITON_CACHE_BYTES has no effect without GRAVITON_CACHE_ROOT",))


def test_open_refuses_too_small_a_cache_and_takes_none_for_zero(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cache"):
        graviton.open(tmp_path / "store", cache=tmp_path / "cache", cache_bytes=1000)
    assert graviton.open(tmp_path / "store", cache=tmp_path / "cache", cache_bytes=0).settings.cache is None


async def test_doctor_tells_of_the_cache(tmp_path: Path) -> None:
    settings = CacheSettings(tmp_path / "cache", 64 << 20)
    check = check_cache(settings)
    assert (check.level, check.values["entries"], check.values["keeper"]) == (Level.OK, 0, None)
    assert not (tmp_path / "cache").exists()
    key = await warmed(tmp_path)
    async with cached_store(tmp_path) as store:
        await read(store, key)
        for _ in range(200):
            check = check_cache(settings)
            if check.values["keeper"] == str(os.getpid()):
                break
            await asyncio.sleep(0.01)
    assert check.values["keeper"] == str(os.getpid())
    assert check.values["bytes"] == len(DATA)
    assert check.values["entries"] == len(blocks_below(tmp_path))
    assert check_cache(CacheSettings(tmp_path / "cache", 1 << 60)).level is Level.WARNING
    (tmp_path / "file").write_bytes(b"")
    assert check_cache(CacheSettings(tmp_path / "file", 64 << 20)).level is Level.WARNING
