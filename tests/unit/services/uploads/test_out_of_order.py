"""Parts in any order, twice, overlapping; and what lies ahead of whoever writes in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Conflict, DigestMismatch, IntegrityError, InvalidInput, LimitExceeded
from graviton.metadata.upload_rows import PartRow
from graviton.services.uploads import (
    Checksum,
    ChecksumAlgo,
    Interrupted,
    Uploads,
    UploadState,
    UploadWishes,
    part_records,
)
from tests.support import some_bytes
from tests.upload_worlds import UploadWorld, pieces

DATA = some_bytes(40_000, 3)


@pytest.fixture
async def world(kernel: Kernel) -> AsyncIterator[UploadWorld]:
    world = UploadWorld(kernel)
    yield world
    await world.aclose()


@pytest.fixture
async def uploads(world: UploadWorld) -> AsyncIterator[Uploads]:
    uploads = world.server()
    yield uploads
    await uploads.aclose()


async def _finished(world: UploadWorld, uploads: Uploads, id: str) -> None:
    done = await uploads.finish(id, 30)  # type: ignore[arg-type]
    assert done.state is UploadState.DONE
    assert done.key == (await world.store.put(DATA)).key
    assert await world.read(done.key) == DATA
    await uploads.terminate(id)  # type: ignore[arg-type]
    assert await world.left_over() == []


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_one_by_one_and_side_by_side(world: UploadWorld, uploads: Uploads, seed: int) -> None:
    chance = random.Random(seed)
    upload = await uploads.create(UploadWishes(len(DATA)))
    cuts = sorted({0, len(DATA), *(chance.randrange(len(DATA)) for _ in range(12))})
    spans = [Span(start, end) for start, end in pairwise(cuts)]
    chance.shuffle(spans)
    calls = [uploads.put_part(upload.id, span, pieces(DATA[span.start : span.end])) for span in spans]
    if seed % 2:
        for number, call in enumerate(calls):
            status = await call
            assert status.received == sum(span.length for span in spans[: number + 1])
            assert await uploads.missing(upload.id) == RangeSet(spans[number + 1 :])
    else:
        await asyncio.gather(*calls)
    await _finished(world, uploads, upload.id)


async def test_overlapping_parts(world: UploadWorld, uploads: Uploads) -> None:
    """Equal bytes are kept once, others refused, wherever they lie: in blocks, in parts, ahead or behind."""
    upload = await uploads.create(UploadWishes(len(DATA)))
    await uploads.append(upload.id, 0, pieces(DATA[:10_000]))
    for start, end in ((12_000, 14_000), (20_000, 20_500), (22_000, 22_001), (30_000, 35_000)):
        await uploads.put_part(upload.id, Span(start, end), pieces(DATA[start:end]))
    before = await uploads.missing(upload.id)
    for start, end, wrong in ((9_000, 40_000, 9_500), (12_500, 13_000, 12_999), (5, 100, 5), (34_000, 36_000, 34_999)):
        data = bytearray(DATA[start:end])
        data[wrong - start] ^= 1
        with pytest.raises(Conflict, match=f"byte {wrong} "):
            await uploads.put_part(upload.id, Span(start, end), pieces(bytes(data)))
    assert await uploads.missing(upload.id) == before
    for start, end in ((5, 100), (12_000, 14_000), (13_000, 21_000), (9_000, 39_999), (0, 39_999), (7, 40_000)):
        await uploads.put_part(upload.id, Span(start, end), pieces(DATA[start:end]))
    with pytest.raises(Conflict, match=r"(finishing|done), and takes no more"):
        await uploads.put_part(upload.id, Span(0, 1), pieces(DATA[:1]))
    await _finished(world, uploads, upload.id)


async def test_a_part_is_whole_or_nothing(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    span = Span(20_000, 25_000)
    part = DATA[20_000:25_000]
    for source in (pieces(part[:-1]), pieces(part + b"?"), pieces(part[:3_000], error=Interrupted())):
        with pytest.raises(InvalidInput):
            await uploads.put_part(upload.id, span, source)
    with pytest.raises(ConnectionError):
        await uploads.put_part(upload.id, span, pieces(part, error=ConnectionError()))
    digest = Checksum(ChecksumAlgo.BLAKE3, HashAlgo.BLAKE3.digest(part).raw)
    with pytest.raises(DigestMismatch):
        await uploads.put_part(upload.id, span, pieces(part[:-1] + b"?"), digest=digest)
    assert await world.parts() == []
    with pytest.raises(LimitExceeded):
        await uploads.put_part(upload.id, Span(39_000, 40_001), pieces(bytes(1_001)))
    status = await uploads.put_part(upload.id, span, pieces(part), digest=digest)
    assert (status.offset, status.received) == (0, 5_000)
    status = await uploads.put_part(upload.id, Span(3, 3), pieces(b""))
    assert status.received == 5_000


async def test_a_part_at_the_offset_is_kept_as_far_as_it_came(uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    status = await uploads.put_part(upload.id, Span(0, 20_000), pieces(DATA[:15_000], error=Interrupted()))
    assert status.offset == 15_000
    digest = Checksum(ChecksumAlgo.BLAKE3, HashAlgo.BLAKE3.digest(DATA[15_000:20_000]).raw)
    with pytest.raises(InvalidInput):
        await uploads.put_part(upload.id, Span(15_000, 20_000), pieces(DATA[15_000:19_000]), digest=digest)
    assert (await uploads.status(upload.id)).offset == 15_000


async def test_whoever_writes_in_order_stops_at_what_is_there(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    await uploads.put_part(upload.id, Span(20_000, 30_000), pieces(DATA[20_000:30_000]))
    with pytest.raises(Conflict, match="from 20000 on"):
        digest = Checksum(ChecksumAlgo.BLAKE3, HashAlgo.BLAKE3.digest(DATA[:25_000]).raw)
        await uploads.append(upload.id, 0, pieces(DATA[:25_000]), checksum=digest)
    await uploads.put_part(upload.id, Span(31_000, 32_000), pieces(DATA[31_000:32_000]))
    with pytest.raises(Conflict, match="from 31000 on"):
        await uploads.append(upload.id, 30_000, pieces(DATA[30_000:]))
    status = await uploads.status(upload.id)
    assert status.offset == 32_000
    await uploads.append(upload.id, 32_000, pieces(DATA[32_000:]))
    await _finished(world, uploads, upload.id)


async def test_a_part_that_lies_where_somebody_writes(world: UploadWorld, uploads: Uploads) -> None:
    """The newest writer wins: the one before stores what it has, and what both have is compared."""
    upload = await uploads.create(UploadWishes(len(DATA)))
    stuck = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:10_000]
        stuck.set()
        await asyncio.Event().wait()

    going_on = asyncio.ensure_future(uploads.append(upload.id, 0, slow()))
    await stuck.wait()
    status = await uploads.put_part(upload.id, Span(9_000, 20_000), pieces(DATA[9_000:20_000]))
    assert status.offset == 20_000
    with pytest.raises(Conflict):
        await going_on
    with pytest.raises(Conflict, match="byte 5 "):
        await uploads.put_part(upload.id, Span(5, 10), pieces(b"other"))
    await uploads.put_part(upload.id, Span(20_000, 40_000), pieces(DATA[20_000:]))
    await _finished(world, uploads, upload.id)


async def test_only_so_many_parts_wait(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_records, "MAX_PARTS", 5)
    upload = await uploads.create(UploadWishes(len(DATA)))
    for at in range(5):
        await uploads.put_part(upload.id, Span(2 * at + 1, 2 * at + 2), pieces(b"x"))
    with pytest.raises(LimitExceeded, match="5 parts"):
        await uploads.put_part(upload.id, Span(101, 102), pieces(b"x"))
    assert (await uploads.status(upload.id)).received == 5


@pytest.mark.parametrize("harm", ["gone", "short", "changed"])
async def test_a_part_that_went_bad_fails_the_upload(world: UploadWorld, uploads: Uploads, harm: str) -> None:
    """Never wrong bytes: a clear error, and nothing is left of it."""
    upload = await uploads.create(UploadWishes(len(DATA)))
    await uploads.put_part(upload.id, Span(20_000, 40_000), pieces(DATA[20_000:]))
    [stat] = [stat async for stat in world.objects.list()]
    if harm == "gone":
        await world.objects.delete(stat.locator)
    else:
        await world.objects.put(stat.locator, DATA[20_000:-1] + (b"" if harm == "short" else b"?"))
    await uploads.append(upload.id, 0, pieces(DATA[:20_000]))
    failed = await uploads.finish(upload.id, 30)
    assert failed.state is UploadState.FAILED
    assert isinstance(failed.error, IntegrityError)
    assert await world.parts() == []
    await uploads.terminate(upload.id)
    assert await world.left_over() == []


async def test_what_waits_is_cut_when_the_gap_closes(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes())
    await uploads.put_part(upload.id, Span(5_000, 40_000), pieces(DATA[5_000:]))
    await uploads.put_part(upload.id, Span(0, 5_000), pieces(DATA[:5_000]))
    while (task := uploads._background.of(upload.id)) is not None:
        await task
    assert len([key async for key in world.blocks.list()]) > 20
    await uploads.declare_length(upload.id, len(DATA))
    await _finished(world, uploads, upload.id)


async def test_appending_while_much_waits_to_be_cut(world: UploadWorld) -> None:
    """A request need not wait for all that: what it brings waits too."""
    uploads = world.server()
    upload = await uploads.create(UploadWishes(len(DATA)))
    await uploads.put_part(upload.id, Span(1_000, 35_000), pieces(DATA[1_000:35_000]))
    await uploads.put_part(upload.id, Span(0, 1_000), pieces(DATA[:1_000]))
    status = await uploads.append(upload.id, 35_000, pieces(DATA[35_000:38_000]))
    assert status.offset == 38_000
    await uploads.append(upload.id, 38_000, pieces(DATA[38_000:]))
    await _finished(world, uploads, upload.id)
    await uploads.aclose()


async def test_what_a_part_costs_does_not_depend_on_how_many_wait(
    world: UploadWorld, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ten thousand of them, which may wait, cost minutes."""
    upload = await uploads.create(UploadWishes(40_000))
    read = 0
    decode = PartRow.decode

    def counted(key: bytes, data: bytes) -> PartRow:
        nonlocal read
        read += 1
        return decode(key, data)

    monkeypatch.setattr(PartRow, "decode", counted)
    for at in range(1, 101):
        status = await uploads.put_part(upload.id, Span(3 * at, 3 * at + 1), pieces(b"x"))
        await uploads.declare_length(upload.id, 40_000)
    assert (status.received, status.offset) == (100, 0)
    assert read <= 5 * 100
    status = await uploads.put_part(upload.id, Span(0, 4), pieces(b"000x"))
    assert (status.received, status.offset) == (103, 4)
    assert await uploads.status(upload.id) == status
