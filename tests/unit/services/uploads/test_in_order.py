"""Bytes that arrive in order, in however many requests, through whatever server, make the blob that a put makes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from graviton.core.attributes import MIME, SIZE, BinaryAttributes, digest_name
from graviton.core.chunking import ChunkerSpec, Kernel
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestEntry
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import RangeSet, Span
from graviton.errors import Conflict, DigestMismatch, InvalidInput, LimitExceeded, NotFound, Unavailable
from graviton.metadata.upload_rows import UPLOAD_PARTS
from graviton.services.uploads import (
    Checksum,
    ChecksumAlgo,
    Interrupted,
    UploadId,
    Uploads,
    UploadState,
    UploadWishes,
)
from graviton.services.uploads import hash_state as hash_state_module
from graviton.stores import segments
from tests.support import some_bytes
from tests.upload_worlds import UploadWorld, pieces

DATA = some_bytes(60_000)


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


async def _manifest(world: UploadWorld, key: BlobKey) -> list[ManifestEntry]:
    record = await world.manifests.get(key)
    return [entry async for page in world.manifests.pages(record) for entry in page]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096, 60_000])
@pytest.mark.parametrize("request_bytes", [100, 513, 5_000, 60_000])
async def test_the_blob_is_the_one_that_a_put_makes(
    world: UploadWorld, uploads: Uploads, kernel: Kernel, size: int, request_bytes: int
) -> None:
    data = DATA[:size] if request_bytes > 100 else DATA[: min(size, 5_000)]
    attributes = BinaryAttributes.EMPTY.advertise({MIME: "text/plain"}, at_ns=1)
    plan = BlobWritePlan(attributes, holder="me")
    upload = await uploads.create(UploadWishes(len(data), plan))
    assert (upload.offset, upload.length) == (0, len(data))
    for start in range(0, len(data), request_bytes):
        upload = await uploads.append(upload.id, start, pieces(data[start : start + request_bytes]))
        assert upload.offset == upload.received == min(start + request_bytes, len(data))
    done = await uploads.finish(upload.id, 30)
    assert (done.state, done.created) == (UploadState.DONE, True)
    other = UploadWorld(kernel)
    put = await other.store.put(data, plan)
    assert done.key == put.key
    stat = await world.store.stat(put.key)
    assert stat is not None
    assert (stat.attributes.mime, stat.attributes.size, stat.blocks) == ("text/plain", len(data), put.blocks)
    assert await _manifest(world, put.key) == await _manifest(other, put.key)
    assert await world.read(put.key) == data
    assert (await world.store.totals()) == (await other.store.totals())
    assert await world.store.delete(put.key, "me")
    assert await uploads.terminate(upload.id)
    assert await world.left_over() == []
    await other.aclose()


async def test_requests_through_different_servers(world: UploadWorld, kernel: Kernel) -> None:
    servers = [world.server() for _ in range(3)]
    upload = await servers[0].create(UploadWishes(len(DATA)))
    for number, start in enumerate(range(0, len(DATA), 7_000)):
        server = servers[number % 3]
        assert (await servers[number % 2].status(upload.id)).offset == start
        upload = await server.append(upload.id, start, pieces(DATA[start : start + 7_000]))
    done = await servers[1].finish(upload.id, 30)
    assert done.key is not None
    assert await world.read(done.key) == DATA
    other = UploadWorld(kernel)
    assert done.key == (await other.store.put(DATA)).key
    assert await _manifest(world, done.key) == await _manifest(other, done.key)
    await other.aclose()
    for server in servers:
        assert (await server.finish(upload.id, 0)).key == done.key  # whoever asks again gets the same answer
        await server.aclose()


@pytest.mark.parametrize("algo", HashAlgo)
async def test_with_another_hash_and_chunker(world: UploadWorld, uploads: Uploads, algo: HashAlgo) -> None:
    plan = BlobWritePlan(hash=algo, chunker=ChunkerSpec.parse("fixed-v1:1000"))
    upload = await uploads.create(UploadWishes(len(DATA), plan))
    await uploads.append(upload.id, 0, pieces(DATA[:12_345]))
    await uploads.append(upload.id, 12_345, pieces(DATA[12_345:]))
    done = await uploads.finish(upload.id, 30)
    assert done.key == BlobKey(algo.digest(DATA), len(DATA))
    stat = await world.store.stat(done.key)
    assert stat is not None
    assert (stat.chunker, stat.blocks) == ("fixed-v1:1000", 60)


async def test_an_offset_that_is_not_the_current_one_changes_nothing(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    await uploads.append(upload.id, 0, pieces(DATA[:10_000]))
    before = await uploads.status(upload.id)
    for offset in (0, 9_999, 10_001, 60_000):
        with pytest.raises(Conflict, match="10000"):
            await uploads.append(upload.id, offset, pieces(b"other bytes"))
    assert (await uploads.status(upload.id))._replace(expires_at_ns=0) == before._replace(expires_at_ns=0)


async def test_a_client_that_goes_is_not_forgotten(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    upload = await uploads.append(upload.id, 0, pieces(DATA[:30_000], error=Interrupted()))
    assert upload.offset == 30_000
    with pytest.raises(ConnectionError):
        await uploads.append(upload.id, 30_000, pieces(DATA[30_000:40_000], error=ConnectionError("reset")))
    assert (await uploads.status(upload.id)).offset == 40_000
    upload = await uploads.append(upload.id, 40_000, pieces(b""))
    assert upload.offset == 40_000
    await uploads.append(upload.id, 40_000, pieces(DATA[40_000:]))
    done = await uploads.finish(upload.id, 30)
    assert done.key is not None
    assert await world.read(done.key) == DATA


async def test_one_byte_at_a_time_costs_few_objects_and_no_square(world: UploadWorld, uploads: Uploads) -> None:
    put: list[int] = []
    inner = world.objects.put

    async def counted(locator, source):  # type: ignore[no-untyped-def]
        stat = await inner(locator, source)
        put.append(stat.size)
        return stat

    world.objects.put = counted  # type: ignore[method-assign]
    data = DATA[:2_000]
    upload = await uploads.create(UploadWishes(len(data)))
    most = 0
    for at in range(len(data)):
        upload = await uploads.append(upload.id, at, pieces(data[at : at + 1]))
        most = max(most, len(await world.parts()))
    assert most < 6 * 7  # logarithm of 2,000, some parts of each size
    assert sum(put) < 12 * len(data)
    done = await uploads.finish(upload.id, 30)
    assert done.key is not None
    assert await world.read(done.key) == data


async def test_bytes_beyond_the_length_are_refused(uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(10_000))
    with pytest.raises(LimitExceeded):
        await uploads.append(upload.id, 0, pieces(DATA[:12_000], 1_500))
    upload = await uploads.status(upload.id)
    assert (upload.offset, upload.state) == (9_000, UploadState.RECEIVING)


async def test_a_length_that_is_declared_late(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes())
    upload = await uploads.append(upload.id, 0, pieces(DATA))
    assert (upload.state, upload.length, upload.is_complete) == (UploadState.RECEIVING, None, False)
    with pytest.raises(Conflict, match="not declared"):
        await uploads.finish(upload.id, 1)
    with pytest.raises(Conflict, match="59999"):
        await uploads.declare_length(upload.id, 59_999)
    upload = await uploads.declare_length(upload.id, 60_000)
    assert upload.state is UploadState.FINISHING
    await uploads.declare_length(upload.id, 60_000)
    with pytest.raises(Conflict):
        await uploads.declare_length(upload.id, 60_001)
    assert (await uploads.finish(upload.id, 30)).key == (await world.store.put(DATA)).key


async def test_what_is_missing(uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(10_000))
    await uploads.append(upload.id, 0, pieces(DATA[:3_000]))
    assert await uploads.missing(upload.id) == RangeSet([Span(3_000, 10_000)])
    upload = await uploads.create(UploadWishes())
    assert (await uploads.missing(upload.id)).contains(2**62)


async def test_checksums_of_requests(world: UploadWorld, uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    step = 15_000
    for algo, start in zip(ChecksumAlgo, range(0, len(DATA), step), strict=True):
        part = DATA[start : start + step]
        raw = (
            HashAlgo.BLAKE3.digest(part).raw if algo is ChecksumAlgo.BLAKE3 else hashlib.new(algo.value, part).digest()
        )
        with pytest.raises(DigestMismatch):
            await uploads.append(upload.id, start, pieces(part[:-1] + b"?"), checksum=Checksum(algo, raw))
        with pytest.raises(DigestMismatch):
            await uploads.append(upload.id, start, pieces(part[:-1], error=Interrupted()), checksum=Checksum(algo, raw))
        with pytest.raises(ConnectionError):
            source = pieces(part, error=ConnectionError())
            await uploads.append(upload.id, start, source, checksum=Checksum(algo, raw))
        assert (await uploads.status(upload.id)).offset == start
        upload = await uploads.append(upload.id, start, pieces(part), checksum=Checksum(algo, raw))
        assert upload.offset == start + len(part)
    assert (await uploads.finish(upload.id, 30)).key == (await world.store.put(DATA)).key
    with pytest.raises(InvalidInput):
        await uploads.append(upload.id, 0, pieces(b""), checksum=Checksum(ChecksumAlgo.MD5, b"short"))


@pytest.mark.parametrize("through", [1, 2])
async def test_claims_on_the_whole(world: UploadWorld, through: int) -> None:
    """Computed on the way by one server, read back by another: the same."""
    servers = [world.server() for _ in range(through)]
    digests = (
        Checksum(ChecksumAlgo.SHA256, hashlib.sha256(DATA).digest()),
        Checksum(ChecksumAlgo.MD5, hashlib.md5(DATA).digest()),
    )
    key = BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))
    wrong = BlobKey(HashAlgo.BLAKE3.digest(b"x"), len(DATA))
    right = [UploadWishes(len(DATA), expected=key, digests=digests)]
    false = [
        UploadWishes(len(DATA), expected=wrong),
        UploadWishes(len(DATA), digests=(digests[0], Checksum(ChecksumAlgo.MD5, bytes(16)))),
        UploadWishes(
            len(DATA),
            BlobWritePlan(BinaryAttributes.EMPTY.advertise({digest_name(HashAlgo.BLAKE3): wrong.digest}, at_ns=1)),
        ),
    ]
    for wishes in [*false, *right]:
        upload = await servers[0].create(wishes)
        for number, start in enumerate(range(0, len(DATA), 20_000)):
            server = servers[number % through]
            upload = await server.append(upload.id, start, pieces(DATA[start : start + 20_000]))
        done = await servers[0].finish(upload.id, 30)
        if wishes in right:
            assert done.key == key
            continue
        assert done.state is UploadState.FAILED
        assert isinstance(done.error, DigestMismatch)
        assert (done.offset, done.key) == (0, None)
        assert await world.parts() == []
        assert await world.open_sessions() == 0
        assert await world.store.stat(key) is None
        with pytest.raises(DigestMismatch):
            await servers[0].append(upload.id, 0, pieces(DATA))
        assert await servers[-1].terminate(upload.id)
        assert await world.left_over() == []
    for server in servers:
        await server.aclose()


@pytest.mark.parametrize(
    "wishes",
    [
        UploadWishes(-1),
        UploadWishes(2**63),
        UploadWishes(10, BlobWritePlan(BinaryAttributes.EMPTY.advertise({SIZE: 11}, at_ns=1))),
        UploadWishes(10, expected=BlobKey(HashAlgo.BLAKE3.digest(b""), 11)),
        UploadWishes(10, expected=BlobKey(HashAlgo.SHA256.digest(b""), 10)),
        UploadWishes(digests=(Checksum(ChecksumAlgo.SHA1, b"x"),)),
        UploadWishes(digests=(Checksum(ChecksumAlgo.MD5, bytes(16)),) * 2),
        UploadWishes(metadata="x" * 20_000),
        UploadWishes(lifetime_seconds=0),
        UploadWishes(lifetime_seconds=1e12),
    ],
)
async def test_wishes_that_cannot_be(world: UploadWorld, uploads: Uploads, wishes: UploadWishes) -> None:
    with pytest.raises(InvalidInput):
        await uploads.create(wishes)
    assert await world.left_over() == []


async def test_what_is_no_upload(uploads: Uploads) -> None:
    unknown = UploadId("0" * 32)
    for call in (uploads.status, uploads.missing):
        with pytest.raises(NotFound):
            await call(unknown)
        with pytest.raises(InvalidInput):
            await call(UploadId("../../etc/passwd"))
    with pytest.raises(NotFound):
        await uploads.append(unknown, 0, pieces(b"x"))
    with pytest.raises(NotFound):
        await uploads.finish(unknown, 1)
    assert not await uploads.terminate(unknown)


async def test_the_newest_writer_wins(world: UploadWorld, uploads: Uploads) -> None:
    """The older one stores what it has; its client is told that somebody else goes on."""
    upload = await uploads.create(UploadWishes(len(DATA)))
    stuck = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:20_000]
        stuck.set()
        await asyncio.Event().wait()

    first = asyncio.ensure_future(uploads.append(upload.id, 0, slow()))
    await stuck.wait()
    with pytest.raises(Conflict):  # it did not know of the bytes that came meanwhile
        await uploads.append(upload.id, 0, pieces(DATA))
    with pytest.raises(Conflict):
        await first
    assert (await uploads.status(upload.id)).offset == 20_000
    await uploads.append(upload.id, 20_000, pieces(DATA[20_000:]))
    assert (await uploads.finish(upload.id, 30)).key == (await world.store.put(DATA)).key


async def test_closing_stores_what_came(world: UploadWorld) -> None:
    uploads = world.server()
    upload = await uploads.create(UploadWishes(len(DATA)))
    stuck = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:20_000]
        stuck.set()
        await asyncio.Event().wait()

    going_on = asyncio.ensure_future(uploads.append(upload.id, 0, slow()))
    await stuck.wait()
    await uploads.aclose()
    with pytest.raises(Unavailable):
        await going_on
    with pytest.raises(Unavailable):
        await uploads.status(upload.id)
    await uploads.aclose()
    again = world.server()
    assert (await again.status(upload.id)).offset == 20_000
    await again.append(upload.id, 20_000, pieces(DATA[20_000:]))
    assert (await again.finish(upload.id, 30)).key == (await world.store.put(DATA)).key
    await again.aclose()


async def test_a_cancelled_call_stores_what_came(uploads: Uploads) -> None:
    upload = await uploads.create(UploadWishes(len(DATA)))
    stuck = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield DATA[:20_000]
        stuck.set()
        await asyncio.Event().wait()

    going_on = asyncio.ensure_future(uploads.append(upload.id, 0, slow()))
    await stuck.wait()
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on
    assert (await uploads.status(upload.id)).offset == 20_000


async def test_hashes_of_so_many_uploads_are_kept(world: UploadWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_state_module, "MAX_STATES", 3)
    uploads = world.server()
    ids = [(await uploads.create(UploadWishes(len(DATA)))).id for _ in range(8)]
    for id in ids:
        await uploads.append(id, 0, pieces(DATA[:30_000]))
    assert len(uploads._states) == 3
    for id in ids:
        await uploads.append(id, 30_000, pieces(DATA[30_000:]))
    keys = {(await uploads.finish(id, 30)).key for id in ids}
    assert keys == {(await world.store.put(DATA)).key}
    await uploads.aclose()


async def test_blocks_that_repeat(world: UploadWorld) -> None:
    """A block that the upload claimed before, in this turn or an earlier one, or before a takeover."""
    data = bytes(40_000) + DATA[:5_000] + bytes(40_000)
    servers = [world.server(), world.server()]
    upload = await servers[0].create(UploadWishes(len(data)))
    for number, start in enumerate(range(0, len(data), 9_000)):
        upload = await servers[number % 2].append(upload.id, start, pieces(data[start : start + 9_000]))
    done = await servers[0].finish(upload.id, 30)
    assert done.key is not None
    assert await world.read(done.key) == data
    for server in servers:
        await server.aclose()


async def test_a_long_upload_is_written_down_on_its_way(
    world: UploadWorld, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "FILL_BYTES", 8_192)
    monkeypatch.setattr(segments, "LEAN_FILL_BYTES", 4_096)
    data = some_bytes(200_000, 7)
    upload = await uploads.create(UploadWishes(len(data)))
    seen = []

    async def watched() -> AsyncIterator[bytes]:
        async for piece in pieces(data, 4_000):
            yield piece
            seen.append((await uploads.status(upload.id)).offset)

    await uploads.append(upload.id, 0, watched())
    assert len(set(seen)) > 5
    assert seen == sorted(seen)
    assert (await uploads.finish(upload.id, 30)).key == (await world.store.put(data)).key
    assert [key async for key in world.kv.scan(UPLOAD_PARTS)] == []
