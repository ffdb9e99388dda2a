"""Uploads go with everything they have: terminated, expired, orphaned, done, or with a row that cannot be read."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest

from graviton.core.chunking import Kernel
from graviton.core.locators import Locator
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.errors import Conflict, IntegrityError, InvalidInput, NotFound, StorageFull
from graviton.metadata.upload_rows import UPLOAD_PARTS, UPLOADS
from graviton.services.uploads import (
    Checksum,
    ChecksumAlgo,
    Swept,
    UploadId,
    Uploads,
    UploadState,
    UploadWishes,
    beats,
    looking,
)
from graviton.services.uploads.kit import range_locator
from graviton.testing.fake_clock import FakeClock
from tests.support import some_bytes
from tests.upload_worlds import UploadWorld, pieces

DATA = some_bytes(40_000, 5)


@pytest.fixture
async def world(kernel: Kernel) -> AsyncIterator[UploadWorld]:
    world = UploadWorld(kernel, clock=FakeClock())
    yield world
    await world.aclose()


@pytest.fixture
async def uploads(world: UploadWorld) -> AsyncIterator[Uploads]:
    uploads = world.server(lifetime_seconds=100)
    yield uploads
    await uploads.aclose()


def _pass(world: UploadWorld, seconds: float) -> None:
    assert isinstance(world.clock, FakeClock)
    world.clock.advance(seconds)


async def _half(uploads: Uploads, **wishes: object) -> UploadId:
    """One with blocks, a tail, and a part that came out of order."""
    upload = await uploads.create(UploadWishes(len(DATA), **wishes))  # type: ignore[arg-type]
    await uploads.append(upload.id, 0, pieces(DATA[:20_000]))
    await uploads.put_part(upload.id, Span(30_000, 35_000), pieces(DATA[30_000:35_000]))
    return upload.id


async def test_terminated(world: UploadWorld, uploads: Uploads) -> None:
    id = await _half(uploads)
    assert len(await world.left_over()) > 4
    assert await uploads.terminate(id)
    assert await world.left_over() == []
    assert not await uploads.terminate(id)
    with pytest.raises(NotFound):
        await uploads.status(id)


async def test_terminated_while_somebody_writes(world: UploadWorld, uploads: Uploads) -> None:
    other = world.server()
    for terminator in (uploads, other):
        id = await _half(uploads)
        stuck, go = asyncio.Event(), asyncio.Event()

        async def slow(stuck: asyncio.Event = stuck, go: asyncio.Event = go) -> AsyncIterator[bytes]:
            yield DATA[20_000:25_000]
            stuck.set()
            await go.wait()

        going_on = asyncio.ensure_future(uploads.append(id, 20_000, slow()))
        await stuck.wait()
        assert await terminator.terminate(id)
        go.set()
        with pytest.raises(NotFound):
            await going_on
        assert [one for one in await world.left_over() if not one.startswith("object")] == []
        await uploads.sweep()
        assert await world.left_over() == []
    await other.aclose()


async def test_expired(world: UploadWorld, uploads: Uploads) -> None:
    """Every sign of life counts; looking is none."""
    id = await _half(uploads)
    lives = await _half(uploads, lifetime_seconds=1_000)
    _pass(world, 60)
    await uploads.append(id, 20_000, pieces(DATA[20_000:20_001]))
    _pass(world, 60)
    assert await uploads.sweep() == Swept()
    await uploads.put_part(id, Span(36_000, 36_001), pieces(DATA[36_000:36_001]))
    _pass(world, 99)
    assert (await uploads.status(id)).offset == 20_001
    assert await uploads.sweep() == Swept()
    _pass(world, 2)
    assert (await uploads.sweep()).expired == 1
    with pytest.raises(NotFound):
        await uploads.append(id, 20_001, pieces(b"late"))
    assert [one.id async for one in uploads.list()] == [lives]
    assert await world.open_sessions() == 1
    _pass(world, 10_000)
    assert (await uploads.sweep()).expired == 1
    assert await world.left_over() == []


@pytest.mark.parametrize("way", ["in order", "checksum", "part"])
async def test_bytes_on_their_way_are_a_sign_of_life(
    world: UploadWorld, uploads: Uploads, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Of the upload, and of the blocks that it has already."""
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.001)
    id = await _half(uploads)

    async def slow() -> AsyncIterator[bytes]:
        for at in range(20_000, 30_000, 2_000):
            _pass(world, 90)
            await _until_expiry_moves(uploads, world, id)
            assert await uploads.sweep() == Swept()
            assert [session async for session in world.index.end_expired()] == []
            yield DATA[at : at + 2_000]

    if way == "part":
        await uploads.put_part(id, Span(20_000, 30_000), slow(), digest=_sha256(DATA[20_000:30_000]))
    else:
        checksum = _sha256(DATA[20_000:30_000]) if way == "checksum" else None
        await uploads.append(id, 20_000, slow(), checksum=checksum)
    assert (await uploads.status(id)).offset == 35_000


async def _until_expiry_moves(uploads: Uploads, world: UploadWorld, id: UploadId) -> None:
    assert world.clock is not None
    deadline = time.monotonic() + 30
    while (
        row := await uploads._kit.load(id)
    ).alive_at_ns < world.clock.now_ns() or row.leased_to_ns < row.expires_at_ns:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def _sha256(data: bytes) -> Checksum:
    return Checksum(ChecksumAlgo.SHA256, hashlib.sha256(data).digest())


async def test_the_session_lives_as_long_as_the_upload(world: UploadWorld, uploads: Uploads) -> None:
    """A part that comes now and then keeps the blocks of the beginning."""
    id = await _half(uploads)
    for at in range(20):
        _pass(world, 90)
        assert [session async for session in world.index.end_expired()] == []
        await uploads.put_part(id, Span(36_000 + at, 36_001 + at), pieces(DATA[36_000 + at : 36_001 + at]))


async def test_a_session_that_was_ended_is_made_anew(world: UploadWorld, uploads: Uploads) -> None:
    id = await _half(uploads, lifetime_seconds=50_000)
    row = await uploads._kit.load(id)
    await world.index.end(row.session)
    await uploads.append(id, 20_000, pieces(DATA[20_000:30_000]))
    await uploads.append(id, 35_000, pieces(DATA[35_000:]))
    done = await uploads.finish(id, 30)
    assert done.key is not None
    assert await world.read(done.key) == DATA


async def test_objects_without_an_upload(world: UploadWorld, uploads: Uploads) -> None:
    id = await _half(uploads)
    there = await world.parts()
    for path in (f"{'a' * 32}/{'b' * 32}", f"{'c' * 32}/{'d' * 32}", "something/else"):
        await world.objects.put(Locator("memory", "default", path), b"left behind")
    assert (await uploads.sweep()).orphans == 2
    assert sorted(await world.parts()) == sorted([*there, "something/else"])
    await world.objects.delete(Locator("memory", "default", "something/else"))
    await uploads.terminate(id)
    assert await world.left_over() == []


async def test_a_sweep_that_was_killed_is_finished_by_the_next(world: UploadWorld, uploads: Uploads) -> None:
    id = await _half(uploads)

    async def broken(prefix: str = "") -> AsyncIterator[object]:
        raise OSError("killed")
        yield

    listing, world.objects.list = world.objects.list, broken  # type: ignore[method-assign, assignment]
    with pytest.raises(OSError, match="killed"):
        await uploads.terminate(id)
    world.objects.list = listing  # type: ignore[method-assign]
    with pytest.raises(NotFound):
        await uploads.status(id)
    with pytest.raises(NotFound):
        await uploads.append(id, 20_000, pieces(b"x"))
    assert [one async for one in uploads.list()] == []
    assert (await uploads.sweep()).expired == 1
    assert await world.left_over() == []


async def test_a_damaged_row_stops_nobody_else(world: UploadWorld, uploads: Uploads) -> None:
    ids = [await _half(uploads) for _ in range(3)]
    await world.kv.put(UPLOADS, bytes.fromhex(ids[1]), b"{}")
    with pytest.raises(IntegrityError):
        await uploads.status(ids[1])
    _pass(world, 1_000)
    assert await uploads.sweep() == Swept(expired=2, failed=1)
    assert await uploads.terminate(ids[1])
    assert await uploads.sweep() == Swept()  # which counts them anew: nobody could tell whether that one was open
    async for session in world.index.end_expired():
        await world.index.end(session)
    assert [one for one in await world.left_over() if not one.startswith("open")] == []


async def test_the_last_answer_can_be_had_again(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA), metadata="name d29ybGQ="))
    await uploads.append(upload.id, 0, pieces(DATA))
    done = await uploads.finish(upload.id, 30)
    assert (done.state, done.metadata, done.is_complete) == (UploadState.DONE, "name d29ybGQ=", True)
    assert await uploads.status(upload.id) == done == await uploads.finish(upload.id, 0)
    assert [one async for one in uploads.list()] == [done]
    assert not await uploads.missing(upload.id)
    for call in (uploads.append(upload.id, 40_000, pieces(b"")), uploads.append(upload.id, 0, pieces(DATA))):
        with pytest.raises(Conflict, match="done"):
            await call
    assert await world.parts() == []
    _pass(world, 101)
    assert (await uploads.sweep()).expired == 1
    assert await world.left_over() == []
    assert done.key is not None
    assert await world.read(done.key) == DATA  # the blob stays


async def test_the_sweeper_runs_by_itself(world: UploadWorld) -> None:
    uploads = world.server(lifetime_seconds=100)
    await _half(uploads)
    _pass(world, 200)
    uploads.start_sweeping(0.001)
    uploads.start_sweeping(0.001)
    while await world.left_over():
        await asyncio.sleep(0.001)
    await uploads.aclose()


async def test_ranges_that_lag_behind_are_repaired(world: UploadWorld, uploads: Uploads) -> None:
    id = await _half(uploads)
    before = await uploads.status(id)
    await uploads._kit.tracker.clear(range_locator(id))
    assert await uploads.status(id) == before


async def test_uploads_are_listed_in_order(uploads: Uploads) -> None:
    ids = sorted([(await uploads.create(UploadWishes(1))).id for _ in range(7)])
    assert [one.id async for one in uploads.list()] == ids
    assert [one.id async for one in uploads.list(ids[2])] == ids[3:]


async def test_a_damaged_row_is_listed_as_such_and_the_others_as_they_are(
    world: UploadWorld, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_ROWS", 2)
    ids = sorted([await _half(uploads) for _ in range(5)])
    whole = [one async for one in uploads.list()]
    await world.kv.put(UPLOADS, bytes.fromhex(ids[1]), b"{}")
    async for key, _ in world.kv.scan(UPLOAD_PARTS, bytes.fromhex(ids[3])):
        await world.kv.put(UPLOAD_PARTS, key, b"damaged")
    rest = [whole[0], whole[2], whole[4]]
    assert await uploads.list_page(None, 10) == (rest, [ids[1], ids[3]], None)
    assert await uploads.list_page(None, 2) == (rest[:1], [ids[1]], ids[1])
    assert await uploads.list_page(ids[1], 3) == (rest[1:], [ids[3]], None)
    found = []
    with pytest.raises(IntegrityError, match=f"{ids[1]} and 1 more cannot be read"):
        async for one in uploads.list():
            found.append(one)  # noqa: PERF401 - what came before the error counts
    assert found == rest
    for id in (ids[1], ids[3]):
        assert await uploads.terminate(id)
    assert await uploads.list_page(None, 10) == (rest, [], None)


async def test_concatenation(world: UploadWorld, uploads: Uploads) -> None:
    spans = [(0, 15_000), (15_000, 15_000), (15_000, 15_700), (15_700, 40_000)]
    ids = []
    for start, end in spans:
        partial = await uploads.create(UploadWishes(end - start, is_partial=True))
        assert partial.is_partial
        await uploads.append(partial.id, 0, pieces(DATA[start:end]))
        assert (await uploads.finish(partial.id, 30)).state is UploadState.RECEIVING
        ids.append(partial.id)
    whole = await uploads.concatenate([*ids, ids[2]], UploadWishes(metadata="m"))
    assert (whole.offset, whole.length, whole.made_of) == (40_700, 40_700, (*ids, ids[2]))
    done = await uploads.finish(whole.id, 30)
    wanted = DATA + DATA[15_000:15_700]
    assert done.key == (await world.store.put(wanted)).key
    assert await world.read(done.key) == wanted
    for id in (*ids, whole.id):
        await uploads.terminate(id)
    assert await world.left_over() == []


async def test_what_cannot_be_concatenated(uploads: Uploads) -> None:
    whole = await uploads.create(UploadWishes(1))
    part = await uploads.create(UploadWishes(1, is_partial=True))
    with pytest.raises(Conflict, match="not complete"):
        await uploads.concatenate([part.id], UploadWishes())
    await uploads.append(part.id, 0, pieces(b"x"))
    other = await uploads.create(UploadWishes(0, BlobWritePlan(domain="other"), is_partial=True))
    for ids, wishes in (
        ([], UploadWishes()),
        ([part.id] * 1_001, UploadWishes()),
        ([whole.id], UploadWishes()),
        ([part.id, other.id], UploadWishes()),
        ([part.id], UploadWishes(2)),
        ([part.id], UploadWishes(is_partial=True)),
    ):
        with pytest.raises(InvalidInput):
            await uploads.concatenate(ids, wishes)
    with pytest.raises(NotFound):
        await uploads.concatenate([part.id, UploadId("0" * 32)], UploadWishes())
    assert (await uploads.finish((await uploads.concatenate([part.id], UploadWishes(1))).id, 30)).key is not None


async def test_a_partial_upload_that_went_fails_what_is_made_of_it(world: UploadWorld, uploads: Uploads) -> None:
    parts = [await uploads.create(UploadWishes(20_000, is_partial=True)) for _ in range(2)]
    for part in parts:
        await uploads.append(part.id, 0, pieces(DATA[:20_000]))
    whole = await uploads._creating.concatenate([part.id for part in parts], UploadWishes(), 50_000)
    await uploads.terminate(parts[1].id)
    done = await uploads.finish(whole, 30)
    assert (done.state, type(done.error)) == (UploadState.FAILED, IntegrityError)
    await uploads.terminate(parts[0].id)
    await uploads.terminate(whole)
    assert await world.left_over() == []


async def test_a_partial_upload_that_was_lost_fails_what_is_made_of_it(world: UploadWorld, uploads: Uploads) -> None:
    part = await uploads.create(UploadWishes(len(DATA), is_partial=True))
    await uploads.append(part.id, 0, pieces(DATA))
    [object_path] = await world.parts()
    await world.objects.put(Locator("memory", "default", object_path), b"")
    whole = await uploads.concatenate([part.id], UploadWishes())
    done = await uploads.finish(whole.id, 30)
    assert (done.state, type(done.error)) == (UploadState.FAILED, IntegrityError)
    await uploads.terminate(part.id)
    await uploads.terminate(whole.id)
    assert await world.left_over() == []


async def test_many_parts_go_side_by_side(
    world: UploadWorld, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other ten thousand of them would take a bucket minutes, and a client waits for it."""
    upload = await uploads.create(UploadWishes(1_000))
    for at in range(50):
        await uploads.put_part(upload.id, Span(3 * at + 1, 3 * at + 2), pieces(b"x"))
    delete = world.objects.delete
    going = most = 0

    async def slow(locator: Locator) -> bool:
        nonlocal going, most
        going, most = going + 1, max(most, going + 1)
        await asyncio.sleep(0.001)
        going -= 1
        return await delete(locator)

    monkeypatch.setattr(world.objects, "delete", slow)
    assert await uploads.terminate(upload.id)
    assert 8 <= most <= 32
    assert await world.left_over() == []


async def test_sweeping_goes_on_whatever_happens(world: UploadWorld, caplog: pytest.LogCaptureFixture) -> None:
    uploads = world.server(lifetime_seconds=100)
    await _half(uploads)
    _pass(world, 200)
    sweep = uploads._sweeping.sweep

    async def broken(*_: object) -> Swept:
        uploads._sweeping.sweep = sweep  # type: ignore[method-assign]
        raise RuntimeError("nobody expects this")

    uploads._sweeping.sweep = broken  # type: ignore[method-assign]
    uploads.start_sweeping(0.001)
    deadline = time.monotonic() + 30
    while await world.left_over() and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    assert await world.left_over() == []
    await uploads.aclose()
    [line] = [record for record in caplog.records if record.name == "graviton.uploads"]
    assert (line.levelname, line.exc_info is not None) == ("ERROR", True)


async def test_what_nobody_waits_for_stands_in_the_log(
    world: UploadWorld, uploads: Uploads, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise StorageFull("no room at all")

    monkeypatch.setattr(uploads._finishing, "_commit", full)
    upload = await uploads.create(UploadWishes(3))
    await uploads.append(upload.id, 0, pieces(b"abc"))
    with pytest.raises(StorageFull):
        await uploads.finish(upload.id, 30)
    [line] = [record for record in caplog.records if record.name == "graviton.uploads"]
    assert (line.levelname, line.getMessage()) == (
        "WARNING",
        f"upload {upload.id} cannot go on now: storage_full: no room at all",
    )
