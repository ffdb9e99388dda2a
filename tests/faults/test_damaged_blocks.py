"""Every byte of every block and manifest page of a small store, damaged one at a time, and worse damage to files."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import graviton
from graviton.assembly.store import Store
from graviton.metadata.rows import PAGES
from graviton.ports.block_index import BlockState
from tests.faults.harness.bench import Bench, Figures, Reach
from tests.faults.harness.laws import block_key, unclean
from tests.faults.harness.scenarios import Blob, some_bytes

BLOCK_BYTES = 256
DATA = some_bytes("damaged", 2_000)
ID = Blob("damaged", DATA).id
KEY = graviton.BlobKey.parse(ID)


@pytest.fixture
async def store(bench: Bench) -> AsyncIterator[Store]:
    place = bench.place("init")
    async with graviton.open(place.root, chunker=f"fixed-v1:{BLOCK_BYTES}") as made:
        await made.put(DATA)
        yield made
    place.remove()


def block_files(root: Path) -> list[Path]:
    return sorted((root / "cas/blocks/blake3").iterdir())


async def _read(store: Store) -> bytes:
    async with await store.get(KEY) as reader:
        return b"".join([bytes(piece) async for piece in reader])


async def _read_names(store: Store, path: Path) -> None:
    """Reading says which blob, block and bytes are damaged, after all the right bytes before them and no others."""
    pieces = b""
    with pytest.raises(graviton.IntegrityError) as caught:
        async with await store.get(KEY) as reader:
            async for piece in reader:
                pieces += piece
    assert pieces == DATA[: _is_named(caught.value.message, path)]


async def _verify_names(store: Store, path: Path) -> None:
    """Verifying says the same, and of nothing else."""
    [line] = [line for line in await unclean(store) if ID in line]
    _is_named(line, path)


def _is_named(text: str, path: Path) -> int:
    """Where in the blob the block begins, after a look whether the text says so."""
    block = block_key(path)
    starts = range(0, len(DATA), BLOCK_BYTES)
    [first] = [at for at in starts if block.digest == block.digest.algo.digest(DATA[at : at + BLOCK_BYTES])]
    assert ID in text, text
    assert block.text in text, text
    assert f"(bytes {first}-{first + block.size - 1} of the blob)" in text, text
    return first


async def _put_repairs(store: Store, path: Path) -> None:
    result = await store.put(DATA)
    assert (result.stats.fresh_blocks, result.stats.repaired_blocks, result.created) == (1, 1, False)
    assert await _read(store) == DATA
    assert path.stat().st_size == block_key(path).size


def _flipped(path: Path, at: int, bit: int) -> None:
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 1 << bit,)))


async def test_each_byte_of_each_block(store: Store, reach: Reach, figures: Figures) -> None:
    """In the short form the first, the last and every 9th, so that each bit of a byte comes up in each block."""
    for path in block_files(store.settings.fs_root):
        size = path.stat().st_size
        for at in sorted({*range(0, size, reach.steps(9)), size - 1}):
            _flipped(path, at, at % 8)
            await _read_names(store, path)
            await _verify_names(store, path)
            await _put_repairs(store, path)
            figures.add("damage: bytes of blocks")
    assert await unclean(store) == []


def _truncated(path: Path) -> None:
    os.chmod(path, 0o600)
    os.truncate(path, path.stat().st_size - 1)


def _grown(path: Path) -> None:
    os.chmod(path, 0o600)
    with open(path, "ab") as file:
        file.write(b"x")


def _emptied(path: Path) -> None:
    os.chmod(path, 0o600)
    os.truncate(path, 0)


def _zeroed(path: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))


def _swapped(path: Path) -> None:
    other = next(one for one in path.parent.iterdir() if one != path)
    path.unlink()
    shutil.copyfile(other, path)


def _linked(path: Path) -> None:
    """To bytes that are right: what the store did not write it does not follow."""
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [_truncated, _grown, _emptied, _zeroed, _swapped, os.unlink, _linked, _fifo])
async def test_files_that_are_not_what_they_were(
    store: Store, figures: Figures, damage: Callable[[Path], None]
) -> None:
    for path in block_files(store.settings.fs_root):
        damage(path)
        await _verify_names(store, path)
        await _read_names(store, path)
        await _put_repairs(store, path)
        path.with_name("elsewhere").unlink(missing_ok=True)
        figures.add(f"damage: files {damage.__name__.strip('_')}")


async def test_a_folder_in_the_place_of_a_block_is_named_and_left_alone(store: Store) -> None:
    path = block_files(store.settings.fs_root)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(graviton.IntegrityError, match="block"):
        await _read(store)
    with pytest.raises(graviton.IntegrityError, match="folder"):
        await store.put(DATA)
    path.rmdir()
    await store.put(DATA)
    assert await _read(store) == DATA


async def test_swapped_blocks_of_equal_size(tmp_path: Path) -> None:
    """The size says nothing, the digest does."""
    one, two = some_bytes("one", 3_000), some_bytes("two", 3_000)
    async with graviton.open(tmp_path / "store") as store:
        keys = [(await store.put(data)).key for data in (one, two)]
        first, second = block_files(store.settings.fs_root)
        first.rename(spare := first.with_name("spare"))
        second.rename(first)
        spare.rename(second)
        for key in keys:
            with pytest.raises(graviton.IntegrityError, match=key.text):
                async with await store.get(key) as reader:
                    await reader.read()
        for data, key in zip((one, two), keys, strict=True):
            assert (await store.put(data)).stats.repaired_blocks == 1
            async with await store.get(key) as reader:
                assert await reader.read() == data


def _damages(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :]
    yield from (b"", data[:-1], data + b"x", data[: len(data) // 2], bytes(len(data)))


async def test_each_byte_of_each_page(store: Store, figures: Figures) -> None:
    """Through the back door, with a right checksum of the row: as if the page had been written wrong."""
    kv = await store.metadata()
    [(place, page)] = [row async for row in kv.scan(PAGES)]
    for bad in _damages(page):
        await kv.put(PAGES, place, bad)
        with pytest.raises(graviton.IntegrityError) as caught:
            await _read(store)
        assert f"{ID}: a manifest page" in caught.value.message
        assert f"(bytes up to {len(DATA) - 1})" in caught.value.message
        [line] = [line for line in await unclean(store) if ID in line]
        assert f"(bytes 0-{len(DATA) - 1} of the blob)" in line, line
        figures.add("damage: bytes of pages")
    await kv.put(PAGES, place, page)
    assert await _read(store) == DATA


async def test_a_page_that_is_damaged_is_repaired_by_the_next_put(store: Store) -> None:
    kv = await store.metadata()
    [(place, page)] = [row async for row in kv.scan(PAGES)]
    await kv.put(PAGES, place, page[:-1] + bytes((page[-1] ^ 1,)))
    await store.put(DATA)
    assert await _read(store) == DATA


async def test_reading_a_damaged_block_changes_only_its_record(store: Store) -> None:
    path = block_files(store.settings.fs_root)[0]
    _flipped(path, 0, 0)
    with pytest.raises(graviton.IntegrityError):
        await _read(store)
    cas = await store.required()
    states = [record.state async for record in cas.index.list()]
    assert states.count(BlockState.DAMAGED) == 1
    assert path.exists(), "the evidence stays"


async def test_repair_of_a_page_keeps_holders_attributes_and_totals(store: Store) -> None:
    plans = [graviton.BlobWritePlan(holder=holder) for holder in ("one", "two")]
    for plan in plans:
        await store.put(DATA, plan)
    totals = await store.totals()
    kv = await store.metadata()
    [(place, _)] = [row async for row in kv.scan(PAGES)]
    await kv.delete(PAGES, place)
    result = await store.put(DATA, plans[0])
    assert not result.created
    assert await store.totals() == totals
    assert await unclean(store) == []
    assert [await store.delete(KEY, holder) for holder in ("", "one", "two", "two")] == [True, True, True, False]
    assert await store.stat(KEY) is None


async def test_repair_of_a_page_in_a_group(store: Store) -> None:
    kv = await store.metadata()
    [(place, page)] = [row async for row in kv.scan(PAGES)]
    await kv.put(PAGES, place, page[::-1])
    other = some_bytes("other", 900)
    assert [result.created async for result in store.put_many([other, DATA, DATA])] == [True, False, False]
    assert await _read(store) == DATA
    assert await unclean(store) == []
