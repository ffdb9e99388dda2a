"""How many uploads are open: counted by what begins and ends them, bounded, and put right by the sweeper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from graviton.core.chunking import Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import NotFound, TooManyRequests
from graviton.metadata.upload_rows import UPLOAD_COUNTS, UPLOADS
from graviton.services.uploads import UploadId, Uploads, UploadState, UploadWishes, records
from graviton.services.uploads.counting import count
from graviton.testing.fake_clock import FakeClock
from tests.upload_worlds import UploadWorld, pieces

NOTHING = BlobKey(HashAlgo.BLAKE3.digest(b"nothing of it"), 1)


@pytest.fixture
async def world(kernel: Kernel) -> AsyncIterator[UploadWorld]:
    world = UploadWorld(kernel, clock=FakeClock())
    yield world
    await world.aclose()


async def opened(world: UploadWorld) -> int:
    return await world.kv.read(count)


async def test_whatever_ends_an_upload_makes_room_for_another(world: UploadWorld) -> None:
    uploads = world.server(max_open=3)
    done, failed, gone = [
        await uploads.create(UploadWishes(1, expected=NOTHING if number == 1 else None)) for number in range(3)
    ]
    for _ in range(2):
        with pytest.raises(TooManyRequests, match="3 uploads are not finished") as refused:
            await uploads.create(UploadWishes(1))
    assert "GRAVITON_UPLOAD_MAX_OPEN" in refused.value.hint
    assert refused.value.retry_after_seconds == 60
    for upload, state in ((done, UploadState.DONE), (failed, UploadState.FAILED)):
        await uploads.append(upload.id, 0, pieces(b"x"))
        assert (await uploads.finish(upload.id, 30)).state is state
    await uploads.terminate(gone.id)
    assert await opened(world) == 0
    for upload in (done, failed):
        assert await uploads.terminate(upload.id)
    assert await opened(world) == 0
    again = [await uploads.create(UploadWishes(1)) for _ in range(3)]
    world.clock.advance(86_400)  # type: ignore[union-attr]
    assert (await uploads.sweep()).expired == len(again)
    assert await world.left_over() == []
    await uploads.aclose()


async def test_several_servers_count_together_also_in_a_race(world: UploadWorld) -> None:
    servers = [world.server(max_open=5) for _ in range(2)]
    asked = [server.create(UploadWishes(1)) for server in servers for _ in range(6)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, TooManyRequests) for one in results) == 7
    assert await opened(world) == 5
    for server in servers:
        await server.aclose()


@pytest.mark.parametrize("wrong", [b"", (9).to_bytes(8, "big")])
async def test_a_count_that_is_wrong_is_put_right(world: UploadWorld, wrong: bytes) -> None:
    uploads = world.server(max_open=3)
    upload = await uploads.create(UploadWishes(1))
    await uploads.create(UploadWishes(1))
    await world.kv.put(UPLOAD_COUNTS, b"open", wrong)
    await uploads.sweep()
    assert await opened(world) == 2
    await world.kv.put(UPLOADS, bytes.fromhex(upload.id), b"damaged")
    await uploads.terminate(upload.id)
    await uploads.sweep()
    assert await opened(world) == 1
    await uploads.aclose()


async def joined(uploads: Uploads) -> tuple[list[UploadId], UploadId]:
    """Two partial uploads and what was made of them."""
    ids = []
    for data in (b"a" * 2000, b"b" * 2000):
        one = await uploads.create(UploadWishes(len(data), is_partial=True))
        await uploads.append(one.id, 0, pieces(data))
        ids.append(one.id)
    whole = await uploads.concatenate(ids, UploadWishes())
    assert (await uploads.finish(whole.id, 30)).state is UploadState.DONE
    return ids, whole.id


async def test_partial_uploads_can_be_put_together_when_no_more_may_be_open(world: UploadWorld) -> None:
    """Else clients whose pieces are all there wait for each other until these expire."""
    uploads = world.server(max_open=2)
    ids, _ = await joined(uploads)
    with pytest.raises(TooManyRequests):
        await uploads.create(UploadWishes(1))
    waiting = [await uploads._creating.concatenate(ids, UploadWishes(), 50_000) for _ in range(2)]
    with pytest.raises(TooManyRequests, match="4 uploads are not finished"):
        await uploads.concatenate(ids, UploadWishes())
    for one in waiting:
        assert (await uploads.finish(one, 30)).state is UploadState.DONE
    assert await opened(world) == 2
    await uploads.aclose()


async def test_partial_uploads_go_when_what_they_were_put_together_to_is_done(world: UploadWorld) -> None:
    """Not at once: the answer may have been lost, and the client puts them together once more."""
    uploads = world.server()
    ids, whole = await joined(uploads)
    alone = await uploads.create(UploadWishes(0, is_partial=True))
    for seconds in (0, 599):
        world.clock.advance(seconds)  # type: ignore[union-attr]
        assert (await uploads.sweep()).expired == 0
    again = await uploads.concatenate(ids[:1], UploadWishes())
    await uploads.finish(again.id, 30)
    world.clock.advance(1)  # type: ignore[union-attr]
    assert (await uploads.sweep()).expired == 1, "the other one was used just now"
    with pytest.raises(NotFound):
        await uploads.status(ids[1])
    world.clock.advance(600)  # type: ignore[union-attr]
    assert (await uploads.sweep()).expired == 1
    assert [one.id async for one in uploads.list()] == sorted([alone.id, whole, again.id])
    assert await world.parts() == []
    assert await opened(world) == 1
    await uploads.aclose()


async def test_partial_uploads_go_also_if_what_they_were_put_together_to_goes_first(world: UploadWorld) -> None:
    """Else they hold blocks of a blob that is deleted, and which no quota counts, until they expire."""
    uploads = world.server()
    ids, whole = await joined(uploads)
    await uploads.terminate(whole)
    assert (await uploads.sweep()).expired == 0
    again = await uploads._creating.concatenate(ids[:1], UploadWishes(), 50_000)
    world.clock.advance(600)  # type: ignore[union-attr]
    assert (await uploads._sweeping.sweep(lambda id: None)).expired == 1
    with pytest.raises(NotFound):
        await uploads.status(ids[1])
    assert (await uploads.finish(again, 30)).state is UploadState.DONE
    await uploads.aclose()


async def test_partial_uploads_stay_while_something_unfinished_is_made_of_them(world: UploadWorld) -> None:
    uploads = world.server()
    ids, _ = await joined(uploads)
    waiting = await uploads._creating.concatenate(ids, UploadWishes(), 50_000)
    world.clock.advance(3600)  # type: ignore[union-attr]
    for _ in range(30):  # nobody can finish it for days
        world.clock.advance(8 * 3600)  # type: ignore[union-attr]
        await world.kv.transact(partial(records.touch, id=waiting, now_ns=world.clock.now_ns()))  # type: ignore[union-attr]
        swept = await uploads._sweeping.sweep(lambda id: None)
        assert swept.resumed == 1
    assert (await uploads.finish(waiting, 30)).state is UploadState.DONE
    world.clock.advance(86_400)  # type: ignore[union-attr]
    await uploads.sweep()
    assert await world.left_over() == []
    await uploads.aclose()
