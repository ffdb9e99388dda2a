"""A writer that dies, or is frozen and wakes up: the next one goes on under a session of its own; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from graviton.core.chunking import Kernel
from graviton.core.keys import BlockKey
from graviton.core.ranges import Span
from graviton.errors import Conflict, IntegrityError
from graviton.metadata.upload_rows import UPLOADS, UploadRow
from graviton.ports.block_index import OwnerState
from graviton.services.uploads import UploadId, Uploads, UploadState, UploadWishes, records
from graviton.testing.fake_clock import FakeClock
from graviton.testing.faults import FaultPlan, FaultyBlockStore, FaultyKeyValueStore, FaultyObjectStore
from tests.support import YieldingBlocks, YieldingKv, some_bytes
from tests.upload_worlds import UploadWorld, pieces

DATA = some_bytes(30_000, 9)


async def _dead_writer(world: UploadWorld, id: UploadId, **fields: object) -> UploadRow:
    """As a process leaves an upload that was killed while it wrote."""

    def die(tx):  # type: ignore[no-untyped-def]
        row = records.load(tx, id)
        return records.save(tx, id, row._replace(token="d" * 32, **fields))

    return await world.kv.transact(die)


@pytest.fixture
async def world(kernel: Kernel) -> AsyncIterator[UploadWorld]:
    world = UploadWorld(kernel, clock=FakeClock())
    yield world
    await world.aclose()


@pytest.fixture
async def uploads(world: UploadWorld) -> AsyncIterator[Uploads]:
    uploads = world.server()
    yield uploads
    await uploads.aclose()


async def _begun(uploads: Uploads, size: int = 20_000) -> UploadId:
    upload = await uploads.create(UploadWishes(len(DATA)))
    await uploads.append(upload.id, 0, pieces(DATA[:size]))
    return upload.id


async def test_a_new_writer_has_a_session_of_its_own(world: UploadWorld, uploads: Uploads) -> None:
    id = await _begun(uploads)
    before = await _dead_writer(world, id)
    await uploads.append(id, 20_000, pieces(DATA[20_000:25_000]))
    after = await uploads._kit.load(id)
    assert after.session != before.session
    assert (after.token, after.heir, after.old_sessions) == ("", 0, ())
    old = await world.index.owner(before.session)
    assert old is not None
    assert old.state is OwnerState.ENDED
    with pytest.raises(Conflict):
        await world.index.claim(before.session, [])
    await uploads.append(id, 25_000, pieces(DATA[25_000:]))
    done = await uploads.finish(id, 30)
    assert done.key is not None
    assert await world.read(done.key) == DATA
    await uploads.terminate(id)
    assert await world.left_over() == []


async def test_one_that_ended_in_order_hands_its_session_on(world: UploadWorld, uploads: Uploads) -> None:
    id = await _begun(uploads)
    before = await uploads._kit.load(id)
    other = world.server()
    await other.append(id, 20_000, pieces(DATA[20_000:]))
    await other.finish(id, 30)
    assert (await other._kit.load(id)).session == before.session
    await other.aclose()


async def test_a_takeover_that_died_leaves_no_session(world: UploadWorld, uploads: Uploads) -> None:
    id = await _begun(uploads)
    [heir, older] = await world.index.open([[], []])
    await _dead_writer(world, id, heir=heir.session, old_sessions=(older.session,))
    await uploads.append(id, 20_000, pieces(DATA[20_000:]))
    assert (await uploads.finish(id, 30)).state is UploadState.DONE
    assert await world.open_sessions() == 0


@pytest.mark.parametrize("is_readable", [True, False])
async def test_a_block_that_cannot_be_relied_on(world: UploadWorld, uploads: Uploads, is_readable: bool) -> None:
    """It is read from wherever it is and written again, or the upload fails: nobody commits it as it is."""
    id = await _begun(uploads)
    keys = [key async for key in world.blocks.list()]
    [record] = await world.index.records([keys[3]])
    assert record is not None
    assert await world.index.mark_damaged(keys[3], record.generation)
    if not is_readable:
        await _spoil(world, keys[3])
    await _dead_writer(world, id)
    if is_readable:
        await uploads.append(id, 20_000, pieces(DATA[20_000:]))
        done = await uploads.finish(id, 30)
        assert done.key is not None
        assert await world.read(done.key) == DATA
    else:
        with pytest.raises(IntegrityError):
            await uploads.append(id, 20_000, pieces(DATA[20_000:]))
        failed = await uploads.status(id)
        assert (failed.state, failed.offset) == (UploadState.FAILED, 0)
        assert isinstance(failed.error, IntegrityError)
    await uploads.terminate(id)
    assert await world.left_over() == []


async def _spoil(world: UploadWorld, key: BlockKey) -> None:
    world.blocks.blocks[key] = b"?" * key.size


async def test_a_spoilt_block_is_found_by_whoever_reads_back(world: UploadWorld, uploads: Uploads) -> None:
    id = await _begun(uploads)
    await _spoil(world, [key async for key in world.blocks.list()][3])
    other = world.server()
    await other.append(id, 20_000, pieces(DATA[20_000:]))
    failed = await other.finish(id, 30)
    assert (failed.state, type(failed.error)) == (UploadState.FAILED, IntegrityError)
    await other.aclose()


async def test_finishing_is_left_to_whoever_is_at_it_until_he_is_silent(world: UploadWorld, uploads: Uploads) -> None:
    assert isinstance(world.clock, FakeClock)
    id = (await uploads.create(UploadWishes())).id
    await uploads.append(id, 0, pieces(DATA))
    finishing = {"length": len(DATA), "state": UploadState.FINISHING, "alive_at_ns": world.clock.now_ns()}
    await _dead_writer(world, id, **finishing)
    other = world.server()
    assert (await other.finish(id, 0.01)).state is UploadState.FINISHING
    assert (await other.sweep()).resumed == 0
    world.clock.advance(31)
    assert (await other.sweep()).resumed == 1
    assert (await other.finish(id, 30)).state is UploadState.DONE
    await other.aclose()


async def test_a_commit_whose_reply_was_lost_with_its_writer(world: UploadWorld, uploads: Uploads) -> None:
    """The key is in the row and its session committed: the blob is there, whoever looks."""
    id = await _begun(uploads, 30_000)
    done = await uploads.finish(id, 30)
    assert done.key is not None
    row = await uploads._kit.load(id)

    def as_before(tx):  # type: ignore[no-untyped-def]
        before = row._replace(state=UploadState.FINISHING, token="d" * 32, alive_at_ns=0, created=False)
        tx.put(UPLOADS, bytes.fromhex(id), before.encode())

    await world.kv.transact(as_before)
    other = world.server()
    assert await other.finish(id, 30) == await uploads.status(id)
    assert (await other.status(id)).created
    await other.aclose()


# Frozen at every call.

_LAST = 20_000


async def _write_on(uploads: Uploads, id: UploadId) -> None:
    await uploads.append(id, 10_000, pieces(DATA[10_000:_LAST]))


async def _finish(uploads: Uploads, id: UploadId) -> None:
    await uploads.append(id, 10_000, pieces(DATA[10_000:]))
    await uploads.finish(id, 30)


async def _put_part(uploads: Uploads, id: UploadId) -> None:
    await uploads.put_part(id, Span(12_000, 15_000), pieces(DATA[12_000:15_000]))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["transact", "read", "put_blocks", "put_object", "delete_object"])
@pytest.mark.parametrize("work", [_write_on, _finish, _put_part])
async def test_a_writer_that_wakes_up_after_it_was_overtaken_changes_nothing(
    kernel: Kernel, work: Callable[[Uploads, UploadId], object], method: str, after: bool
) -> None:
    call = 0
    while True:
        call += 1
        plan = FaultPlan()
        kv, blocks = YieldingKv(), YieldingBlocks()
        world = UploadWorld(kernel, kv=kv, blocks=blocks)
        frozen_world = UploadWorld(
            kernel,
            kv=FaultyKeyValueStore(kv, plan),  # type: ignore[arg-type]
            blocks=FaultyBlockStore(blocks, plan),  # type: ignore[arg-type]
            objects=FaultyObjectStore(world.objects, plan),  # type: ignore[arg-type]
        )
        newer, frozen = world.server(stale_seconds=0), frozen_world.server()
        id = (await newer.create(UploadWishes(len(DATA)))).id
        await newer.append(id, 0, pieces(DATA[:10_000]))
        plan.calls.clear()
        hold = plan.hold(method, call, after=after)
        working = asyncio.ensure_future(work(frozen, id))  # type: ignore[arg-type]
        reached = asyncio.ensure_future(hold.reached.wait())
        await asyncio.wait([working, reached], return_when=asyncio.FIRST_COMPLETED)
        if not reached.done():
            reached.cancel()
            await working
            await frozen.aclose()
            await newer.aclose()
            break
        status = await newer.status(id)
        if status.offset < len(DATA):
            try:
                await newer.append(id, status.offset, pieces(DATA[status.offset :]))
            except Conflict:  # a part that lies ahead
                status = await newer.status(id)
                await newer.append(id, status.offset, pieces(DATA[status.offset :]))
        done = await newer.finish(id, 30)
        hold.release()
        [outcome] = await asyncio.gather(working, return_exceptions=True)
        assert outcome is None or isinstance(outcome, Conflict), repr(outcome)
        await frozen.aclose()
        assert (await newer.status(id))._replace(expires_at_ns=0) == done._replace(expires_at_ns=0)
        assert done.key is not None
        assert await world.read(done.key) == DATA
        assert await world.open_sessions() == 0
        assert await world.parts() == []
        await newer.terminate(id)
        assert await world.left_over() == [], (method, call, after)
        await newer.aclose()
    assert call > 1 or method in ("delete_object", "put_object", "put_blocks")
