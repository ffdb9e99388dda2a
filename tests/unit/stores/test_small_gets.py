"""Gets of small blobs on a disk: gathered where they wait together, and independent all the same."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.backends.filesystem import FsBlockStore
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.concurrency.executors import in_own_thread
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound, RangeNotSatisfiable, Unavailable
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.blobs import BlobReader
from graviton.ports.block_index import BlockState
from graviton.ports.manifests import BlobRecord
from graviton.ports.metrics import MetricKeys, Series
from graviton.stores.small_gets import MAX_SMALL_GET_BYTES
from tests.forking import refused_in_a_child
from tests.support import World, some_bytes
from tests.unit.metadata.test_damaged_records import spoil_blob

_T = TypeVar("_T")

CONTENTS = [some_bytes(100 + number, number) for number in range(20)]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "graviton-small-gets"]


async def _filled(store: Store, contents: Sequence[bytes] = CONTENTS) -> list[BlobKey]:
    return [result.key async for result in store.put_many(contents)]


async def _read(store: Store, key: BlobKey, span: Span | None = None) -> bytes:
    async with await store.get(key, span) as reader:
        return await reader.read()


def _block_file(root: Path, key: BlobKey) -> Path:
    return root / f"cas/blocks/blake3/{key.digest.hex}-{key.size}"


class _Gate:
    """Holds the thread of a store in its first group until all gets of the test wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reached, self._open = threading.Event(), threading.Event()
        self.groups: list[int] = []
        real = KvBlobManifestRepo.find

        async def held(repo: KvBlobManifestRepo, keys: Sequence[BlobKey], domain: str = "") -> list[BlobRecord | None]:
            self._reached.set()
            assert self._open.wait(30)
            self.groups.append(len(keys))
            return await real(repo, keys, domain)

        monkeypatch.setattr(KvBlobManifestRepo, "find", held)

    async def reached(self) -> None:
        """Until the thread is held."""
        await in_own_thread(self._reached.wait, 30)
        await asyncio.sleep(0)

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()

    async def all_at_once(self, *gets: Awaitable[_T]) -> list[_T | BaseException]:
        """The outcomes of `gets`, of which all but the first wait in line together."""
        tasks = [asyncio.ensure_future(gets[0])]
        await self.reached()
        tasks += [asyncio.ensure_future(get) for get in gets[1:]]
        await asyncio.sleep(0.01)
        self.open()
        return await asyncio.gather(*tasks, return_exceptions=True)


async def _budget_used(store: Store) -> int:
    return (await store.required()).budget.used


@pytest.mark.parametrize("metadata", [None, "rocksdb://"], ids=["sqlite", "rocksdb"])
async def test_gets_that_wait_together_are_looked_up_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: str | None
) -> None:
    async with graviton.open(tmp_path, metadata=metadata) as store:
        keys, gate = await _filled(store), _Gate(monkeypatch)
        assert await gate.all_at_once(*[_read(store, key) for key in keys]) == CONTENTS
        assert gate.groups == [1, 19]
        assert await _budget_used(store) == 0


async def test_a_damaged_block_fails_alone_and_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = InMemoryMetrics()
    async with graviton.open(tmp_path, metrics=metrics) as store:
        keys, gate = await _filled(store), _Gate(monkeypatch)
        spoiled, lost = keys[3], keys[7]
        _block_file(tmp_path, spoiled).write_bytes(bytes(spoiled.size))
        _block_file(tmp_path, lost).unlink()
        results = await gate.all_at_once(*[_read(store, key) for key in keys])
        for number, result in enumerate(results):
            if number not in (3, 7):
                assert result == CONTENTS[number]
                continue
            assert isinstance(result, IntegrityError)
            assert f"blob {keys[number]}" in result.message
            assert f"bytes 0-{keys[number].size - 1} " in result.message
        index = (await store.required()).index
        for key in (spoiled, lost):
            [record] = await index.records([BlockKey(key.digest, key.size)])
            assert record is not None
            assert record.state is BlockState.DAMAGED
        counters = metrics.snapshot().counters
        assert counters[Series(MetricKeys.BLOCKS_DAMAGED.value)] == 2
        await store.put(CONTENTS[3])
        assert await _read(store, spoiled) == CONTENTS[3]
        assert await _budget_used(store) == 0


async def test_a_damaged_record_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with graviton.open(tmp_path) as store:
        keys, gate = await _filled(store), _Gate(monkeypatch)
        spoil_blob(tmp_path, keys[4])
        results = await gate.all_at_once(*[_read(store, key) for key in keys])
        error = results.pop(4)
        assert isinstance(error, IntegrityError)
        assert keys[4].text in error.message
        assert results == CONTENTS[:4] + CONTENTS[5:]
        assert await _budget_used(store) == 0


async def test_a_block_in_the_trash_is_found(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        [key] = await _filled(store, CONTENTS[:1])
        reclaimer = store.sides.reclaimer
        assert reclaimer is not None
        await reclaimer.move_to_trash(BlockKey(key.digest, key.size), 1)
        assert not _block_file(tmp_path, key).exists()
        assert await _read(store, key) == CONTENTS[0]


async def test_a_missing_blob_is_not_found_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with graviton.open(tmp_path) as store:
        keys, gate = await _filled(store), _Gate(monkeypatch)
        await store.delete(keys[2])
        results = await gate.all_at_once(*[store.get(key) for key in keys])
        assert isinstance(results.pop(2), NotFound)
        assert all(isinstance(result, BlobReader) for result in results)
        for reader in results:
            assert isinstance(reader, BlobReader)
            await reader.aclose()
        assert await _budget_used(store) == 0


async def test_spans_domains_and_sizes(tmp_path: Path) -> None:
    data = some_bytes(MAX_SMALL_GET_BYTES, 99)
    async with graviton.open(tmp_path) as store:
        key = (await store.put(data, graviton.BlobWritePlan(domain="d"))).key
        for span in (None, Span(0, 1), Span(5, 900), Span(len(data) - 1, len(data)), Span(7, 7)):
            async with await store.get(key, span, "d") as reader:
                expected = data if span is None else data[span.start : span.end]
                assert reader.size == len(expected)
                assert await reader.read() == expected
                assert await reader.read() == b""
        with pytest.raises(RangeNotSatisfiable):
            await store.get(key, Span(0, len(data) + 1), "d")
        with pytest.raises(NotFound):
            await store.get(key)
        empty = (await store.put(b"")).key
        assert await _read(store, empty) == b""
        assert await _budget_used(store) == 0


async def test_a_small_blob_of_many_blocks_is_read_the_ordinary_way(tmp_path: Path) -> None:
    async with graviton.open(tmp_path, chunker="fixed-v1:64") as store:
        [key] = await _filled(store, [data := some_bytes(1_000)])
        assert await _read(store, key) == data
        assert await _read(store, key, Span(60, 200)) == data[60:200]
        assert await _budget_used(store) == 0


async def test_nobody_waits_for_memory_to_get(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        keys = await _filled(store)
        budget = (await store.required()).budget
        lease = await budget.lease(budget.total)
        reader = await asyncio.wait_for(store.get(keys[0]), 10)
        reading = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0.02)
        assert not reading.done()
        lease.release()
        assert await asyncio.wait_for(reading, 10) == CONTENTS[0]
        await reader.aclose()
        assert budget.used == 0


async def test_readers_that_nobody_reads_hold_a_small_part_of_the_memory(tmp_path: Path) -> None:
    data = some_bytes(MAX_SMALL_GET_BYTES, 1)
    async with graviton.open(tmp_path) as store:
        [key] = await _filled(store, [data])
        budget = (await store.required()).budget
        share = budget.total // 16
        readers = [await store.get(key) for _ in range(2 * share // len(data))]
        assert budget.used == share
        assert await readers[-1].read() == data, "this one has no bytes yet, and gets them"
        assert await readers[0].read() == data
        await readers[1].aclose()
        assert budget.used <= share - len(data)
        del readers
        gc.collect()
        assert budget.used == 0


async def test_puts_that_wait_for_memory_do_not_send_small_gets_the_long_way(tmp_path: Path) -> None:
    """With four uploads at once a get took 30 ms: their buffers use three quarters of the budget, and one waits."""
    async with graviton.open(tmp_path) as store:
        keys = await _filled(store)
        cas = await store.required()
        lease = await cas.budget.lease(cas.budget.for_puts)
        waiting = asyncio.ensure_future(cas.budget.acquire(1, cas.budget.for_puts))
        await asyncio.sleep(0)
        reader = await store.get(keys[0])
        assert cas.budget.used == cas.budget.for_puts + keys[0].size, "it has its bytes"
        assert await reader.read() == CONTENTS[0]
        await reader.aclose()
        lease.release()
        await waiting
        cas.budget.release(1)


async def test_a_blob_deleted_after_get_is_read_to_its_end(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        [key] = await _filled(store, CONTENTS[:1])
        async with await store.get(key) as reader:
            await store.delete(key)
            assert await reader.read() == CONTENTS[0]


async def test_a_get_that_is_cancelled_while_it_waits_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with graviton.open(tmp_path) as store:
        keys, gate = await _filled(store), _Gate(monkeypatch)
        waiting = asyncio.ensure_future(_read(store, keys[0]))
        await gate.reached()
        doomed = asyncio.ensure_future(_read(store, keys[1]))
        await asyncio.sleep(0.01)
        doomed.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert doomed.done(), "it does not wait for others"
        assert await _budget_used(store) == keys[0].size
        assert await gate.all_at_once(waiting, _read(store, keys[2])) == [CONTENTS[0], CONTENTS[2]]
        assert gate.groups == [1, 1]
        assert await _budget_used(store) == 0


async def test_a_get_that_is_cancelled_in_its_group_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with graviton.open(tmp_path) as store:
        keys = await _filled(store)
        begun, go_on = threading.Event(), threading.Event()
        real = FsBlockStore.read

        def slow(blocks: FsBlockStore, key: BlockKey) -> bytes:
            begun.set()
            assert go_on.wait(30)
            return real(blocks, key)

        monkeypatch.setattr(FsBlockStore, "read", slow)
        reads = [asyncio.ensure_future(_read(store, key)) for key in keys[:4]]
        await in_own_thread(begun.wait, 30)
        reads[1].cancel()
        await asyncio.sleep(0.02)
        go_on.set()
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert isinstance(results.pop(1), asyncio.CancelledError)
        assert results == [CONTENTS[0], CONTENTS[2], CONTENTS[3]]
        assert await _budget_used(store) == 0


async def test_closing_ends_who_waits_and_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = graviton.open(tmp_path)
    keys = await _filled(store)
    budget = (await store.required()).budget
    gate = _Gate(monkeypatch)
    gets = [asyncio.ensure_future(store.get(key)) for key in keys[:1]]
    await gate.reached()
    gets += [asyncio.ensure_future(store.get(key)) for key in keys[1:]]
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0.01)
    gate.open()
    await asyncio.wait_for(closing, 30)
    results = await asyncio.gather(*gets, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * len(keys)
    assert _threads() == []
    assert budget.used == 0
    with pytest.raises(Unavailable, match="closed"):
        await store.get(keys[0])


async def test_a_reader_from_before_the_end_has_its_bytes(tmp_path: Path) -> None:
    store = graviton.open(tmp_path)
    keys = await _filled(store)
    reader = await store.get(keys[0])
    await store.aclose()
    assert await reader.read() == CONTENTS[0]
    await reader.aclose()
    with pytest.raises(Unavailable):
        await reader.read()


async def test_a_store_that_is_forgotten_takes_its_thread_along(tmp_path: Path) -> None:
    store = graviton.open(tmp_path)
    keys = await _filled(store)
    await _read(store, keys[0])
    assert len(_threads()) == 1
    del store
    gc.collect()
    for _ in range(200):
        if not _threads():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the thread stays")


async def test_a_child_made_by_fork_is_told(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        keys = await _filled(store)
        await _read(store, keys[0])
        small = (await store.required())._small_gets
        assert small is not None

        async def get_and_close() -> object:
            try:
                return await store.get(keys[1])
            finally:
                await small.aclose()

        refused_in_a_child(get_and_close, small._gathering._lock)
        assert await _read(store, keys[1]) == CONTENTS[1]


async def test_gets_are_counted_once_each(tmp_path: Path) -> None:
    metrics = InMemoryMetrics()
    async with graviton.open(tmp_path, metrics=metrics) as store:
        keys = await _filled(store)
        await asyncio.gather(*[_read(store, key) for key in keys])
        await store.delete(keys[0])
        with pytest.raises(NotFound):
            await store.get(keys[0])
        counters = metrics.snapshot().counters
        name = MetricKeys.BLOB_OPERATIONS.value
        assert counters[Series(name, (("operation", "get"), ("outcome", "ok")))] == len(keys)
        assert counters[Series(name, (("operation", "get"), ("outcome", "not_found")))] == 1


async def test_memory_and_caches_need_no_thread(kernel: graviton.Kernel, tmp_path: Path) -> None:
    world = World(kernel)
    key = (await world.store.put(b"small")).key
    async with await world.store.get(key) as reader:
        assert await reader.read() == b"small"
    async with graviton.open(tmp_path / "store", cache=tmp_path / "cache") as store:
        keys = await _filled(store)
        assert await _read(store, keys[0]) == CONTENTS[0]
        assert await _read(store, keys[0]) == CONTENTS[0]
    assert _threads() == []
