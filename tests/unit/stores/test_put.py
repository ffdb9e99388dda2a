"""What a put promises, over memory: what is stored, what is stored once, and what is known about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.core.attribute_values import SIZE, digest_name
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.policies import BlobLayout, BlobWritePlan, StorePolicy
from graviton.errors import DigestMismatch, InvalidInput, Unsupported
from graviton.metadata.rows import PAGES
from tests.support import SMALL_SPEC, World, some_bytes
from tests.unit.stores.puts import DATA, KEY, advertise, pieces

pytestmark = pytest.mark.python_kernel


async def test_an_empty_blob_is_a_blob(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for source in (b"", tmp_path / "empty", iter([]), pieces(b"", 1)):
        world = World(kernel)
        result = await world.store.put(source)
        assert (result.key.size, result.stats.blocks, result.created) == (0, 0, True)
        assert await (await world.store.get(result.key)).read() == b""
        assert not (await world.store.put(b"")).created


async def test_the_same_bytes_again_store_nothing(kernel: Kernel) -> None:
    world = World(kernel)
    first = await world.store.put(DATA)
    assert first.created
    assert first.stats.fresh_blocks == first.stats.blocks > 10
    assert first.stats.fresh_bytes == len(DATA)
    again = await world.store.put(DATA)
    assert not again.created
    assert (again.stats.fresh_blocks, again.stats.dedup_ratio) == (0, 1.0)
    totals = await world.store.totals()
    assert (totals.blobs, totals.logical_bytes, totals.stored_bytes) == (1, len(DATA), len(DATA))


async def test_equal_blocks_of_one_blob_are_written_once(kernel: Kernel) -> None:
    world = World(kernel, spec=ChunkerSpec.parse("fixed:4096"))
    result = await world.store.put(bytes(40_960))
    assert (result.stats.blocks, result.stats.fresh_blocks) == (10, 1)


async def test_claims_that_the_bytes_do_not_meet_leave_nothing(kernel: Kernel) -> None:
    wrong = HashAlgo.BLAKE3.digest(b"other")
    for values in ({SIZE: len(DATA) + 1}, {digest_name(HashAlgo.BLAKE3): wrong}):
        world = World(kernel)
        with pytest.raises(DigestMismatch):
            await world.store.put(DATA, advertise(dict(values)))
        assert await world.store.stat(KEY) is None
        assert await world.open_sessions() == 0


async def test_a_digest_that_cannot_be_compared_is_refused_before_anything_is_read(kernel: Kernel) -> None:
    plan = advertise({digest_name(HashAlgo.SHA256): HashAlgo.SHA256.digest(DATA)})
    with pytest.raises(InvalidInput, match="sha256"):
        await World(kernel).store.put(DATA, plan)
    checked = await World(kernel).store.put(DATA, plan.replace(hash=HashAlgo.SHA256))
    assert checked.key.digest == HashAlgo.SHA256.digest(DATA)


async def test_true_claims_are_kept_and_confirmed(kernel: Kernel) -> None:
    world = World(kernel)
    result = await world.store.put(DATA, advertise({SIZE: len(DATA), "user.name": "a.bin"}))
    stat = await world.store.stat(result.key)
    assert stat is not None
    assert stat.attributes.file_name == "a.bin"
    assert stat.attributes.confirmed[SIZE].value == len(DATA)
    assert stat.attributes.chunk_count == result.stats.blocks == stat.blocks


async def test_policies_that_are_not_offered_are_refused(kernel: Kernel) -> None:
    with pytest.raises(Unsupported, match="framed"):
        await World(kernel).store.put(DATA, BlobWritePlan(policy=StorePolicy(layout=BlobLayout.FRAMED)))


async def test_manifests_larger_than_a_page_are_written_while_reading(kernel: Kernel) -> None:
    spec = ChunkerSpec.parse("fixed:64")
    world = World(kernel, spec=spec)
    data = some_bytes(64 * 4096 * 3 + 17)  # three full pages and one short block
    result = await world.store.put(data)
    record = await world.manifests.get(result.key)
    assert (record.page_count, record.block_count) == (4, 3 * 4096 + 1)
    async with await world.store.get(result.key) as reader:
        assert await reader.read() == data
    assert not (await world.store.put(data)).created


async def test_the_spec_is_stored_with_the_blob(kernel: Kernel) -> None:
    world = World(kernel)
    result = await world.store.put(DATA, BlobWritePlan(chunker=ChunkerSpec.parse("fixed:1000")))
    stat = await world.store.stat(result.key)
    assert stat is not None
    assert stat.chunker == "fixed-v1:1000"
    assert (await world.store.put(b"x")).chunker == SMALL_SPEC.text


async def test_putting_again_with_another_chunker_keeps_manifest_and_what_is_confirmed_about_it(kernel: Kernel) -> None:
    world = World(kernel)
    first = await world.store.put(DATA)
    again = await world.store.put(DATA, BlobWritePlan(chunker=ChunkerSpec.parse("fixed:1000")))
    assert again.stats.blocks == 60 != first.stats.blocks
    stat = await world.store.stat(first.key)
    assert stat is not None
    assert (stat.blocks, stat.chunker) == (first.stats.blocks, SMALL_SPEC.text)
    assert stat.attributes.chunk_count == first.stats.blocks


async def test_putting_again_replaces_a_damaged_manifest_of_any_length(kernel: Kernel) -> None:
    for pages, chunk in ((1, "fixed:20000"), (6, "fixed:64")):
        world = World(kernel, spec=ChunkerSpec.parse(chunk))
        data = some_bytes(64 * 4096 * pages - 100)
        result = await world.store.put(data)
        assert not (await world.store.put(data)).created
        rows = [row async for row in world.kv.scan(PAGES)]
        assert len(rows) == pages
        place, page = rows[-1]
        await world.kv.put(PAGES, place, page[:50] + bytes([page[50] ^ 1]) + page[51:])
        await world.store.put(data)
        async with await world.store.get(result.key) as reader:
            assert await reader.read() == data
        totals = await world.store.totals()
        assert (totals.blobs, totals.logical_bytes) == (1, len(data))
