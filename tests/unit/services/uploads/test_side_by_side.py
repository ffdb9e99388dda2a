"""Many clients at one upload, through several servers at once: they get in each other's way, and the blob is right."""

from __future__ import annotations

import asyncio
import random

import pytest

from graviton.core.chunking import Kernel
from graviton.core.ranges import Span
from graviton.errors import Conflict
from graviton.services.uploads import Interrupted, UploadId, Uploads, UploadState, UploadWishes
from tests.support import some_bytes
from tests.upload_worlds import UploadWorld, pieces

DATA = some_bytes(40_000, 31)


async def _client(uploads: Uploads, id: UploadId, chance: random.Random) -> None:
    """Asks what is missing, and sends some of it, until nothing is."""
    told = 0
    while True:
        status = await uploads.status(id)
        assert status.offset >= told, "what was told is gone"
        told = status.offset
        if status.state is not UploadState.RECEIVING:
            done = await uploads.finish(id, 60)
            assert done.state is UploadState.DONE
            return
        try:
            await _send(uploads, id, status.offset, chance)
        except Conflict:
            continue


async def _send(uploads: Uploads, id: UploadId, offset: int, chance: random.Random) -> None:
    size = chance.choice([1, 300, 3_000, 9_000])
    match chance.randrange(5):
        case 0 | 1:
            error = Interrupted() if chance.random() < 0.3 else None
            await uploads.append(id, offset, pieces(DATA[offset : offset + size], 700, error))
        case 2:
            gaps = list(await uploads.missing(id))
            if gaps:
                start = chance.choice(gaps).start
                span = Span(start, min(start + size, len(DATA)))
                await uploads.put_part(id, span, pieces(DATA[span.start : span.end], 700))
        case 3:
            start = chance.randrange(len(DATA))
            span = Span(start, min(start + size, len(DATA)))
            await uploads.put_part(id, span, pieces(DATA[span.start : span.end], 700))
        case _:
            call = asyncio.ensure_future(uploads.append(id, offset, pieces(DATA[offset : offset + size], 100)))
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            if not call.cancelled() and (failure := call.exception()) is not None:
                raise failure


@pytest.mark.parametrize("seed", range(8))
async def test_many_clients(kernel: Kernel, seed: int) -> None:
    world = UploadWorld(kernel)
    servers = [world.server(stale_seconds=0.05) for _ in range(3)]
    id = (await servers[0].create(UploadWishes(len(DATA)))).id
    chances = [random.Random(f"{seed} {number}") for number in range(6)]
    clients = [_client(servers[number % 3], id, chance) for number, chance in enumerate(chances)]
    await asyncio.wait_for(asyncio.gather(*clients), 120)
    done = await servers[1].status(id)
    assert done.key is not None
    assert await world.read(done.key) == DATA
    assert await world.open_sessions() == 0
    for server in servers:
        await server.sweep()
    assert await servers[2].terminate(id)
    for server in servers:
        await server.aclose()
    assert await world.left_over() == []
    await world.aclose()
