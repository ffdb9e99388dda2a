"""Every kind of damage to the bytes of blocks is named, and putting the same bytes again repairs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from graviton.core.keys import BlockKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import IntegrityError, NotFound, Unavailable
from graviton.ports.block_index import BlockState
from graviton.services.findings import Part
from graviton.stores.block_access import BlockAccess
from tests.unit.services.stores import (
    BLOCK_BYTES,
    block_file,
    entries_of,
    noise,
    opened,
    overwrite,
    parts_of,
    verified,
)

DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "bit flipped": lambda one, other: overwrite(one, bytes((one.read_bytes()[0] ^ 1,)) + one.read_bytes()[1:]),
    "last bit flipped": lambda one, other: overwrite(one, one.read_bytes()[:-1] + bytes((one.read_bytes()[-1] ^ 128,))),
    "truncated": lambda one, other: overwrite(one, one.read_bytes()[:-1]),
    "emptied": lambda one, other: overwrite(one, b""),
    "grown": lambda one, other: overwrite(one, one.read_bytes() + b"x"),
    "swapped": lambda one, other: overwrite(one, other.read_bytes()),
    "missing": lambda one, other: one.unlink(),
}


async def test_whole_store_is_clean_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for size in (0, 1, BLOCK_BYTES, 5 * BLOCK_BYTES + 7):
            await store.put(noise(size, seed=size))
        outcome = await verified(store)
        budget = (await store.required()).budget
    assert (outcome.damages, outcome.notes) == ([], [])
    assert outcome.summary.blobs == 4
    assert outcome.summary.blocks == 1 + 1 + 6
    assert outcome.summary.logical_bytes == outcome.summary.read_bytes == 1 + BLOCK_BYTES + 5 * BLOCK_BYTES + 7
    assert outcome.summary.is_clean
    assert budget.used == 0


@pytest.mark.parametrize("kind", DAMAGES)
async def test_damaged_block_is_named_and_healed_by_the_next_put(tmp_path: Path, kind: str) -> None:
    data = noise(6 * BLOCK_BYTES + 100)
    async with opened(tmp_path) as store:
        blob = (await store.put(data)).key
        entries = await entries_of(store, blob)
        DAMAGES[kind](block_file(tmp_path, entries[2].key), block_file(tmp_path, entries[3].key))

        outcome = await verified(store, blob)
        [damage] = outcome.damages
        assert (damage.part, damage.blob, damage.block) == (Part.BLOCK, blob, entries[2].key)
        assert damage.span == Span(2 * BLOCK_BYTES, 3 * BLOCK_BYTES)
        assert f"bytes {2 * BLOCK_BYTES}-{3 * BLOCK_BYTES - 1} of the blob" in damage.text
        assert blob.text in damage.text
        assert entries[2].key.text in damage.text
        assert (outcome.summary.damaged_blobs, outcome.summary.is_clean) == (1, False)

        [record] = await (await store.required()).index.records([entries[2].key])
        assert record is not None
        assert record.state is BlockState.DAMAGED
        assert (await store.put(data)).stats.repaired_blocks == 1
        assert (await verified(store)).summary.is_clean
        async with await store.get(blob) as reader:
            assert await reader.read() == data


async def test_every_damage_of_a_blob_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        blob = (await store.put(noise(20 * BLOCK_BYTES))).key
        entries = await entries_of(store, blob)
        for number in (0, 7, 8, 19):
            block_file(tmp_path, entries[number].key).unlink()
        for quick in (False, True):
            outcome = await verified(store, blob, quick=quick)
            assert [one.block for one in outcome.damages] == [entries[number].key for number in (0, 7, 8, 19)]
            assert outcome.summary.damaged_blobs == 1


async def test_block_of_two_blobs_is_damaged_in_both(tmp_path: Path) -> None:
    shared = noise(BLOCK_BYTES, seed=9)
    async with opened(tmp_path) as store:
        first = (await store.put(shared + noise(BLOCK_BYTES, seed=1))).key
        second = (await store.put(noise(BLOCK_BYTES, seed=2) + shared)).key
        key = (await entries_of(store, first))[0].key
        block_file(tmp_path, key).unlink()
        outcome = await verified(store)
    found = {one.blob: one.span for one in outcome.damages}
    assert found == {first: Span(0, BLOCK_BYTES), second: Span(BLOCK_BYTES, 2 * BLOCK_BYTES)}


async def test_quick_run_reads_nothing_and_sees_what_is_missing_or_short(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        blob = (await store.put(noise(8 * BLOCK_BYTES))).key
        entries = await entries_of(store, blob)
        clean = await verified(store, quick=True)
        assert (clean.summary.is_clean, clean.summary.read_bytes, clean.summary.blocks) == (True, 0, 8)
        DAMAGES["bit flipped"](block_file(tmp_path, entries[1].key), tmp_path)
        assert (await verified(store, quick=True)).summary.is_clean
        DAMAGES["truncated"](block_file(tmp_path, entries[3].key), tmp_path)
        DAMAGES["missing"](block_file(tmp_path, entries[5].key), tmp_path)
        quick = await verified(store, quick=True)
        assert [one.block for one in quick.damages] == [entries[3].key, entries[5].key]
        full = await verified(store)
        assert [one.block for one in full.damages] == [entries[number].key for number in (1, 3, 5)]


@pytest.mark.parametrize("quick", [False, True])
async def test_damaged_block_that_no_blob_uses_is_a_note(tmp_path: Path, quick: bool) -> None:
    async with opened(tmp_path) as store:
        kept = (await store.put(noise(BLOCK_BYTES, seed=1))).key
        gone = (await store.put(noise(3 * BLOCK_BYTES, seed=2))).key
        keys = [entry.key for entry in await entries_of(store, gone)]
        assert await store.delete(gone)
        block_file(tmp_path, keys[1]).unlink()
        outcome = await verified(store, quick=quick)
        assert outcome.damages == []
        assert outcome.summary.is_clean
        [note] = outcome.notes
        assert (note.block, note.blob, note.is_note) == (keys[1], None, True)
        assert "no visible blob uses it" in note.text
        assert (await verified(store, kept)).notes == []


async def test_equal_blocks_of_a_blob_are_read_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        blob = (await store.put(bytes(200 * BLOCK_BYTES))).key
        outcome = await verified(store, blob)
    assert outcome.summary.is_clean
    assert (outcome.summary.blocks, outcome.summary.read_bytes) == (1, BLOCK_BYTES)


async def test_block_that_is_a_blob_too_is_read_once_by_a_full_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        data = noise(BLOCK_BYTES)
        await store.put(data)
        outcome = await verified(store)
    assert outcome.summary.read_bytes == BLOCK_BYTES


class _Access(BlockAccess):
    """Reads that fail, or do something first."""

    def __init__(self, real: BlockAccess, hook: Callable[[BlockKey], object]) -> None:
        self._real, self._hook = real, hook
        self.reads = 0

    async def read(self, key: BlockKey, domain: str) -> bytes:
        self.reads += 1
        happened = self._hook(key)
        if asyncio.iscoroutine(happened):
            await happened
        return await self._real.read(key, domain)


async def test_block_that_cannot_be_read_is_named_and_the_rest_is_checked(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        blob = (await store.put(noise(4 * BLOCK_BYTES))).key
        bad = (await entries_of(store, blob))[1].key

        def fail(key: BlockKey) -> None:
            if key == bad:
                raise Unavailable("Input/output error")

        parts = await parts_of(store)
        outcome = await verified(store, blob, parts=parts._replace(access=_Access(parts.access, fail)))
        [damage] = outcome.damages
        assert (damage.block, damage.span) == (bad, Span(BLOCK_BYTES, 2 * BLOCK_BYTES))
        assert "cannot be read: Input/output error" in damage.text
        [record] = await parts.block_index.records([bad])
        assert record is not None
        assert record.state is BlockState.STORED  # nobody has seen its bytes to be wrong


async def test_backend_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(noise(300 * BLOCK_BYTES))

        def fail(key: BlockKey) -> None:
            raise Unavailable("no answer")

        parts = await parts_of(store)
        with pytest.raises(Unavailable, match="no answer"):
            await verified(store, parts=parts._replace(access=_Access(parts.access, fail)))
        assert parts.budget.used == 0


async def test_blob_deleted_meanwhile_is_no_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        blob = (await store.put(noise(4 * BLOCK_BYTES))).key

        async def collected(key: BlockKey) -> None:
            await store.delete(blob)
            raise IntegrityError(f"block {key} is missing")

        parts = await parts_of(store)
        outcome = await verified(store, blob, parts=parts._replace(access=_Access(parts.access, collected)))
        assert outcome.damages == []
        assert outcome.summary.blobs == 0


async def test_unknown_blob_is_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        blob = (await store.put(b"x")).key
        await store.delete(blob)
        with pytest.raises(NotFound):
            await verified(store, blob)


async def test_cancelled_run_gives_its_memory_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(noise(50 * BLOCK_BYTES))
        parts = await parts_of(store)
        reached = asyncio.Event()

        async def hang(key: BlockKey) -> None:
            reached.set()
            await asyncio.Event().wait()

        run = asyncio.ensure_future(verified(store, parts=parts._replace(access=_Access(parts.access, hang))))
        await reached.wait()
        assert parts.budget.used > 0
        before = asyncio.all_tasks() - {run, asyncio.current_task()}
        run.cancel()
        await asyncio.wait([run])
        assert run.cancelled()
        assert parts.budget.used == 0
        assert all(task.done() for task in before)


async def test_memory_stays_within_a_window_per_stream(tmp_path: Path) -> None:
    async with opened(tmp_path, "fixed-v1:1MiB") as store:
        for seed in range(6):
            await store.put(noise(12 << 20, seed))
        parts = await parts_of(store)
        most = 0

        def look(key: BlockKey) -> None:
            nonlocal most
            most = max(most, parts.budget.used)

        outcome = await verified(store, parts=parts._replace(access=_Access(parts.access, look)))
        assert outcome.summary.is_clean
        assert 1 << 20 < most <= 4 * 4 << 20


async def test_every_domain_is_verified(tmp_path: Path) -> None:
    plans = [BlobWritePlan(domain=name) for name in ("", "a", "tenant/b")]
    async with opened(tmp_path) as store:
        shared = noise(3 * BLOCK_BYTES, 1)
        for plan in plans:
            await store.put(shared, plan)
        only = (await store.put(noise(BLOCK_BYTES, 2), plans[2])).key
        outcome = await verified(store)
        assert outcome.damages == outcome.notes == []
        assert outcome.summary.blobs == 4
        assert outcome.summary.logical_bytes == 10 * BLOCK_BYTES
        assert outcome.summary.read_bytes == 10 * BLOCK_BYTES
        block_file(tmp_path, BlockKey(only.digest, only.size)).unlink()
        for quick in (False, True):
            [damage] = (await verified(store, quick=quick)).damages
            assert (damage.domain, damage.blob, damage.span) == ("tenant/b", only, Span(0, BLOCK_BYTES))
            assert damage.text.startswith("domain 'tenant/b': blob ")
            assert damage.to_json()["domain"] == "tenant/b"
            await store.put(noise(BLOCK_BYTES, 2), plans[2])
            block_file(tmp_path, BlockKey(only.digest, only.size)).unlink()


@pytest.mark.parametrize("quick", [True, False])
async def test_folder_in_the_place_of_a_block_is_told_once(tmp_path: Path, quick: bool) -> None:
    """Also after a put that wanted to repair it, and left the record pending."""
    data = noise(3 * BLOCK_BYTES)
    async with opened(tmp_path) as store:
        blob = (await store.put(data)).key
        block = (await entries_of(store, blob))[1].key
        path = block_file(tmp_path, block)
        path.unlink()
        path.mkdir()
        for _ in range(2):
            [damage] = (await verified(store, quick=quick)).damages
            assert (damage.part, damage.block, damage.span) == (Part.BLOCK, block, Span(BLOCK_BYTES, 2 * BLOCK_BYTES))
            with pytest.raises(IntegrityError, match="folder"):
                await store.put(data)
        path.rmdir()
        await store.put(data)
        assert (await verified(store, quick=quick)).damages == []
