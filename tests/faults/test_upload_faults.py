"""Uploads while calls fail, replies are lost and requests are cancelled: what was told stays, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.ranges import Span
from graviton.errors import Conflict, GravitonError, NotFound, StorageFull, Unavailable
from graviton.services.uploads import Checksum, ChecksumAlgo, UploadId, Uploads, UploadState, UploadWishes
from graviton.testing.faults import FaultPlan, FaultyBlockStore, FaultyKeyValueStore, FaultyObjectStore
from tests.support import YieldingBlocks, YieldingKv, some_bytes
from tests.upload_worlds import UploadWorld, pieces

DATA = some_bytes(24_000, 11)

_METHODS = ["transact", "read", "put_blocks", "put_object", "get_object", "delete_object", "list_objects"]


def _faulty_world(kernel: Kernel, plan: FaultPlan) -> tuple[UploadWorld, UploadWorld]:
    """A store as it is, and the same whose calls fail as planned."""
    kv, blocks = YieldingKv(), YieldingBlocks()
    world = UploadWorld(kernel, kv=kv, blocks=blocks)
    faulty = UploadWorld(
        kernel,
        kv=FaultyKeyValueStore(kv, plan),  # type: ignore[arg-type]
        blocks=FaultyBlockStore(blocks, plan),  # type: ignore[arg-type]
        objects=FaultyObjectStore(world.objects, plan),  # type: ignore[arg-type]
    )
    return world, faulty


async def _upload(uploads: Uploads, ids: list[UploadId]) -> None:
    """Everything an upload does: in order, small, checked, out of order, twice, finished."""
    upload = await uploads.create(UploadWishes(len(DATA)))
    ids.append(upload.id)
    await uploads.append(upload.id, 0, pieces(DATA[:6_000]))
    await uploads.append(upload.id, 6_000, pieces(DATA[6_000:6_100]))
    await uploads.put_part(upload.id, Span(12_000, 16_000), pieces(DATA[12_000:16_000]))
    digest = Checksum(ChecksumAlgo.BLAKE3, HashAlgo.BLAKE3.digest(DATA[6_100:9_000]).raw)
    await uploads.append(upload.id, 6_100, pieces(DATA[6_100:9_000]), checksum=digest)
    await uploads.put_part(upload.id, Span(11_000, 18_000), pieces(DATA[11_000:18_000]))
    await uploads.put_part(upload.id, Span(9_000, 11_000), pieces(DATA[9_000:11_000]))
    await uploads.append(upload.id, 18_000, pieces(DATA[18_000:]))
    await uploads.finish(upload.id, 30)


async def _go_on(uploads: Uploads, id: UploadId) -> None:
    """What a client does: ask, and go on there."""
    while True:
        status = await uploads.status(id)
        if status.state is not UploadState.RECEIVING:
            break
        try:
            await uploads.append(id, status.offset, pieces(DATA[status.offset :]))
        except Conflict:
            continue  # a part lies ahead
    done = await uploads.finish(id, 30)
    assert done.state is UploadState.DONE, done


async def _check(world: UploadWorld, ids: list[UploadId], context: object) -> None:
    """Another server brings it to its end, and nothing is left."""
    server = world.server(stale_seconds=0)
    for id in ids:
        await _go_on(server, id)
        done = await server.status(id)
        assert done.key is not None
        assert await world.read(done.key) == DATA, context
        await server.terminate(id)
    for status in [one async for one in server.list()]:  # made, and its reply was lost
        await server.terminate(status.id)
    await server.sweep()
    left = [one for one in await world.left_over() if not one.startswith("open session")]
    assert left == [], context
    assert await _claims_of_open_sessions(world) == 0, context
    await server.aclose()


async def _claims_of_open_sessions(world: UploadWorld) -> int:
    """A session whose number was lost with a reply is empty, and expires."""
    from graviton.metadata.rows import CLAIMS, OWNERS, OwnerRow
    from graviton.ports.block_index import OwnerState

    count = 0
    async for key, data in world.kv.scan(OWNERS):
        row = OwnerRow.decode(data)
        if row.state is OwnerState.OPEN:
            count += len(row.first_claims) + len([one async for one in world.kv.scan(CLAIMS, key)])
    return count


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", _METHODS)
async def test_every_call_that_fails(kernel: Kernel, method: str, after: bool) -> None:
    """With an error before it, or after it was done: the client is told, or need not be."""
    call = 0
    while True:
        call += 1
        plan = FaultPlan()
        world, faulty = _faulty_world(kernel, plan)
        uploads = faulty.server()
        ids: list[UploadId] = []
        error = StorageFull("planned") if call % 2 else Unavailable("planned")
        plan.fail(method, call, error, after=after)
        failed: GravitonError | None = None
        try:
            await _upload(uploads, ids)
        except GravitonError as found:
            failed = found
        happened = plan.calls[method] >= call
        if failed is not None:
            assert failed.message == "planned", (method, call, failed)
        await uploads.aclose()
        await _check(world, ids, (method, call, after))
        await world.aclose()
        if not happened:
            break
    assert call > 1


_Work = Callable[[Uploads, UploadId], Awaitable[object]]


async def _append(uploads: Uploads, id: UploadId) -> object:
    return await uploads.append(id, 6_000, pieces(DATA[6_000:20_000]))


async def _append_little(uploads: Uploads, id: UploadId) -> object:
    return await uploads.append(id, 6_000, pieces(DATA[6_000:6_010]))


async def _append_checked(uploads: Uploads, id: UploadId) -> object:
    checksum = Checksum(ChecksumAlgo.BLAKE3, HashAlgo.BLAKE3.digest(DATA[6_000:9_000]).raw)
    return await uploads.append(id, 6_000, pieces(DATA[6_000:9_000]), checksum=checksum)


async def _put_part(uploads: Uploads, id: UploadId) -> object:
    return await uploads.put_part(id, Span(5_000, 14_000), pieces(DATA[5_000:14_000]))


async def _finish(uploads: Uploads, id: UploadId) -> object:
    await uploads.append(id, 6_000, pieces(DATA[6_000:]))
    return await uploads.finish(id, 30)


async def _terminate(uploads: Uploads, id: UploadId) -> object:
    return await uploads.terminate(id)


@pytest.mark.parametrize("work", [_append, _append_little, _append_checked, _put_part, _finish, _terminate])
async def test_cancelled_at_every_await(kernel: Kernel, work: _Work) -> None:
    turns = 0
    while True:
        turns += 1
        world = UploadWorld(kernel)
        uploads = world.server()
        id = (await uploads.create(UploadWishes(len(DATA)))).id
        await uploads.append(id, 0, pieces(DATA[:6_000]))
        task = asyncio.ensure_future(work(uploads, id))
        for _ in range(turns):
            await asyncio.sleep(0)
        is_over = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or task.exception() is None, (turns, task)
        try:
            offset = (await uploads.status(id)).offset
            assert offset >= 6_000
        except NotFound:
            assert work is _terminate
        await uploads.aclose()
        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == [], turns
        assert world.budget.used == 0
        gone = work is _terminate and turns > 1
        await _check(world, [] if gone else [id], turns)
        await world.aclose()
        if is_over:
            break
    assert turns > 5


async def test_closed_at_every_await(kernel: Kernel) -> None:
    """No task outlives it, and another server goes on."""
    for turns in range(0, 400, 7):
        world = UploadWorld(kernel)
        uploads = world.server()
        ids: list[UploadId] = []
        task = asyncio.ensure_future(_upload(uploads, ids))
        for _ in range(turns):
            await asyncio.sleep(0)
        await uploads.aclose()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert outcome is None or isinstance(outcome, Unavailable), (turns, outcome)
        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == [], turns
        assert world.budget.used == 0
        await _check(world, ids, turns)
        await world.aclose()


async def test_a_source_that_fails_at_every_piece(kernel: Kernel) -> None:
    world = UploadWorld(kernel)
    uploads = world.server()
    for good in range(12):

        async def broken(good: int = good) -> AsyncIterator[bytes]:
            for at in range(good):
                yield DATA[at * 2_000 : at * 2_000 + 2_000]
            raise ConnectionResetError(f"after {good}")

        id = (await uploads.create(UploadWishes(len(DATA)))).id
        with pytest.raises(ConnectionResetError, match=f"after {good}"):
            await uploads.append(id, 0, broken())
        assert (await uploads.status(id)).offset == good * 2_000
        await _go_on(uploads, id)
        await uploads.terminate(id)
    assert await world.left_over() == []
    await uploads.aclose()
    await world.aclose()
