"""Objects made of parts: nothing stays open whatever ends them, and lost replies are resolved by looking."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import secrets
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from graviton.backends.objectstore._multipart import TOKEN
from graviton.backends.objectstore._s3_api import Part, Piece, S3Api, Upload
from graviton.backends.objectstore._transfers import part_plan
from graviton.backends.objectstore.bucket import make_bucket
from graviton.backends.objectstore.objects import MAX_KEY_BYTES, S3MutableObjectStore
from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.errors import ConfigError, Conflict, InvalidInput, NotFound, Unavailable
from graviton.testing.conformance.checks import cancelled_everywhere
from tests.s3_server import S3Server, default_server, moto_server
from tests.unit.objectstore.canned import ETAG, answer, listening, settings

pytestmark = pytest.mark.s3

MIB = 1024 * 1024
PART = 5 * MIB


class Place:
    """A bucket of its own, and a store whose calls can be made to fail."""

    def __init__(self, server: S3Server | None = None, **settings: Any) -> None:
        server = server or moto_server()
        self.bucket = server.new_bucket()
        settings = {"retry_seconds": 2, "part_bytes": PART, "copy_part_bytes": PART} | settings
        self.store = S3MutableObjectStore(server.config(self.bucket, **settings))
        self.api = self.store.api
        self.calls: list[str] = []
        self.faults: dict[str, list[str]] = {}
        """By method of the driver: what happens to its next calls: lost, refused, denied, ignored, removed or ""."""

    def at(self, path: str) -> Locator:
        return Locator("s3", self.bucket, path)

    def api_of(self) -> S3Api:
        """Another one, which nothing fails."""
        return S3Api.of(self.api.config)

    async def open_uploads(self) -> list[str]:
        return [upload.key for upload in await self.api.uploads("", "all")]

    async def content(self, path: str) -> bytes:
        return b"".join([piece async for piece in await self.store.get(self.at(path))])

    def watch(self) -> None:
        """Look at the driver's calls, and let the planned ones fail."""
        client = self.api._opened()
        make = client._make_api_call

        def watched(method: str, arguments: dict[str, Any]) -> Any:
            self.calls.append(method)
            plan = self.faults.get(method, [])
            fault = plan.pop(0) if plan else ""
            if fault == "refused":
                raise ConnectionError("refused")
            if fault == "denied":
                told = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
                raise ClientError(told, method)  # type: ignore[arg-type]
            if fault == "ignored":
                return {}
            if fault == "removed":
                make("AbortMultipartUpload", {name: arguments[name] for name in ("Bucket", "Key", "UploadId")})
            answer = make(method, arguments)
            if fault == "lost":
                raise ConnectionError("the reply was lost")
            return answer

        client._make_api_call = watched


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    made.watch()
    yield made
    assert not any(made.faults.values()), "a planned fault did not happen"
    await made.store.aclose()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def pieces(data: bytes, size: int = 700_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART, 23 * MIB])
async def test_sources_of_any_size_come_back(place: Place, size: int) -> None:
    data = noise(size)
    for path, source in (("memory", data), ("stream", pieces(data))):
        stat = await place.store.put(place.at(path), source)
        assert stat.size == size
        assert await place.content(path) == data
    assert await place.open_uploads() == []
    assert ("CreateMultipartUpload" in place.calls) is (size >= PART)


async def test_every_body_has_its_checksum_in_a_header(place: Place) -> None:
    told: list[bytes] = []

    def sent(request: Any, **_: object) -> None:
        value = request.headers["x-amz-checksum-crc32"]
        told.append(value.encode() if isinstance(value, str) else value)

    for method in ("PutObject", "UploadPart"):
        place.api._opened().meta.events.register(f"before-send.s3.{method}", sent)
    data = noise(PART + 9)
    await place.store.put(place.at("small"), data[:9])
    await place.store.put(place.at("large"), data)
    sums = [base64.b64encode(zlib.crc32(one).to_bytes(4, "big")) for one in (data[:9], data[:PART], data[PART:])]
    assert sorted(told) == sorted(sums)
    head = place.api._opened().head_object(Bucket=place.bucket, Key="large")
    assert head["ETag"].endswith('-2"')
    assert len(head["Metadata"][TOKEN]) == 32


async def test_put_that_fails_or_is_cancelled_anywhere_leaves_nothing_open(place: Place) -> None:
    data = noise(12 * MIB)

    async def failing(at: int) -> AsyncIterator[bytes]:
        async for piece in pieces(data[:at]):
            yield piece
        raise KeyError("planned")

    for at in (0, PART - 1, PART, 11 * MIB):
        with pytest.raises(KeyError):
            await place.store.put(place.at("a"), failing(at))
        assert await place.open_uploads() == []
    for delay in (0.0, 0.01, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3):
        job = asyncio.ensure_future(place.store.put(place.at("a"), pieces(data)))
        await asyncio.wait([job], timeout=delay)
        job.cancel()
        await asyncio.wait([job])
        assert await place.open_uploads() == []
        if await place.store.head(place.at("a")) is not None:
            assert await place.content("a") == data
            await place.store.delete(place.at("a"))


async def test_put_that_is_cancelled_at_every_step_leaves_nothing_open(place: Place) -> None:
    data = noise(6 * MIB)
    async for attempt in cancelled_everywhere(lambda: place.store.put(place.at("a"), pieces(data, 3 * MIB))):
        assert await place.open_uploads() == []
        found = await place.store.head(place.at("a"))
        assert attempt.cancelled or found is not None
        if found is not None:
            assert await place.content("a") == data
            await place.store.delete(place.at("a"))


async def test_put_that_takes_too_long_leaves_nothing_open(place: Place) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield noise(11 * MIB)
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await place.store.put(place.at("a"), silent())
    assert "CreateMultipartUpload" in place.calls
    assert await place.open_uploads() == []


METHODS = ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject"]


@pytest.mark.parametrize("fault", ["lost", "refused"])
@pytest.mark.parametrize("method", METHODS)
async def test_one_failure_of_any_call_is_no_failure_of_the_put(place: Place, method: str, fault: str) -> None:
    data = noise(100 if method == "PutObject" else 11 * MIB)
    place.faults[method] = [fault]
    stat = await place.store.put(place.at("a"), pieces(data))
    assert stat.size == len(data)
    assert await place.content("a") == data
    assert await place.open_uploads() == []


async def test_completion_whose_replies_are_all_lost_is_found_to_have_happened() -> None:
    place = Place(retry_seconds=0)
    place.watch()
    place.faults["CompleteMultipartUpload"] = ["lost"]
    await place.store.put(place.at("a"), noise(11 * MIB))
    assert await place.content("a") == noise(11 * MIB)
    await place.store.aclose()


async def test_completion_that_never_happened_is_a_failure_and_leaves_nothing_open() -> None:
    place = Place(retry_seconds=0)
    place.watch()
    await place.store.put(place.at("a"), b"old")
    place.faults["CompleteMultipartUpload"] = ["refused"]
    with pytest.raises(Unavailable):
        await place.store.put(place.at("a"), noise(11 * MIB))
    assert await place.content("a") == b"old"
    assert await place.open_uploads() == []
    await place.store.aclose()


async def test_upload_left_by_a_lost_reply_is_removed_and_that_of_somebody_else_is_not(place: Place) -> None:
    client = place.api._opened()
    other = client.create_multipart_upload(Bucket=place.bucket, Key="a")["UploadId"]
    client.upload_part(Bucket=place.bucket, Key="a", UploadId=other, PartNumber=1, Body=b"x")
    elsewhere = client.create_multipart_upload(Bucket=place.bucket, Key="ab")["UploadId"]
    place.faults["CreateMultipartUpload"] = ["lost"]
    await place.store.put(place.at("a"), noise(11 * MIB))
    assert {upload.id for upload in await place.api.uploads("", "all")} == {other, elsewhere}


async def test_upload_left_by_a_lost_reply_is_removed_also_if_that_of_the_completion_is_lost() -> None:
    place = Place(default_server())
    place.watch()
    place.faults |= {"CreateMultipartUpload": ["lost"], "CompleteMultipartUpload": ["lost"]}
    await place.store.put(place.at("a"), noise(6 * MIB))
    assert await place.content("a") == noise(6 * MIB)
    assert await place.open_uploads() == []
    await place.store.aclose()


async def test_upload_of_somebody_else_without_a_part_yet_is_left_alone() -> None:
    """His first part is on its way. Both were begun in the same second, and one reply was lost."""
    place = Place(default_server())
    place.watch()
    client = place.api._opened()
    other = client.create_multipart_upload(Bucket=place.bucket, Key="a")["UploadId"]
    place.faults["CreateMultipartUpload"] = ["lost"]
    await place.store.put(place.at("a"), noise(6 * MIB))
    assert other in {upload.id for upload in await place.api.uploads("", "all")}
    await place.store.aclose()


async def test_upload_that_was_begun_long_before_is_none_of_ours() -> None:
    place = Place(default_server())
    place.watch()
    client = place.api._opened()
    other = client.create_multipart_upload(Bucket=place.bucket, Key="a")["UploadId"]
    await asyncio.sleep(3)
    place.faults["CreateMultipartUpload"] = ["refused"]
    await place.store.put(place.at("a"), noise(6 * MIB))
    assert [upload.id for upload in await place.api.uploads("", "all")] == [other]
    await place.store.aclose()


async def test_completion_whose_reply_is_lost_needs_no_right_to_list_parts() -> None:
    place = Place(retry_seconds=0)
    place.watch()
    place.faults |= {"CompleteMultipartUpload": ["lost"], "ListParts": ["denied"]}
    await place.store.put(place.at("a"), noise(11 * MIB))
    assert await place.content("a") == noise(11 * MIB)
    await place.store.aclose()


async def test_upload_that_stays_whatever_is_answered_is_told() -> None:
    place = Place(retry_seconds=0)
    place.watch()
    place.faults |= {"UploadPart": ["refused"], "AbortMultipartUpload": ["ignored"] * 3}
    with pytest.raises(Unavailable) as caught:
        await place.store.put(place.at("a"), noise(6 * MIB))
    assert "lifecycle" in caught.value.hint
    assert len(await place.open_uploads()) == 1
    await place.store.aclose()


async def test_put_needs_no_look_at_what_it_made(place: Place) -> None:
    """It could fail, after all was done."""
    for data in (b"new", noise(PART + 1)):
        await place.store.put(place.at("a"), data)
        await place.store.copy(place.at("a"), place.at("b"))
    assert place.calls.count("HeadObject") == 3, "before a copy, and in one by parts at its end"


class _BadlyClosed:
    """A source that fails in being closed."""

    def __init__(self, size: int) -> None:
        self._pieces = iter([noise(size)])

    def __iter__(self) -> _BadlyClosed:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        raise KeyError("planned")


@pytest.mark.parametrize("size", [100, PART + 1])
async def test_source_that_fails_in_being_closed_makes_no_object(place: Place, size: int) -> None:
    await place.store.put(place.at("a"), b"old")
    with pytest.raises(KeyError, match="planned"):
        await place.store.put(place.at("a"), _BadlyClosed(size))
    assert await place.content("a") == b"old"
    assert await place.open_uploads() == []


@pytest.mark.parametrize("ending", ["cancelled", "failed"])
async def test_source_that_stands_still_does_not_keep_the_upload_open(ending: str) -> None:
    place = Place(retry_seconds=0)
    place.watch()
    look = place.api_of()
    stands, go_on = threading.Event(), threading.Event()

    def source() -> Iterator[bytes]:
        yield noise(PART)
        yield noise(MIB)
        stands.set()
        go_on.wait(30)

    async def put_part(*arguments: Any) -> Part:
        while not stands.is_set():
            await asyncio.sleep(0.01)
        if ending == "failed":
            raise Unavailable("planned")
        return await S3Api.put_part(place.api, *arguments)

    place.api.put_part = put_part  # type: ignore[method-assign]
    job = asyncio.ensure_future(place.store.put(place.at("a"), source()))
    while not stands.is_set():
        await asyncio.sleep(0.01)
    if ending == "cancelled":
        job.cancel()
    async with asyncio.timeout(10):
        while await look.uploads("", "all"):
            await asyncio.sleep(0.01)
    assert not job.done(), "the source is used until it gives way"
    go_on.set()
    with pytest.raises(Unavailable if ending == "failed" else asyncio.CancelledError):
        await job
    await look.aclose()
    await place.store.aclose()


async def test_store_that_is_closed_during_a_put_leaves_nothing_open() -> None:
    place = Place()
    look = place.api_of()

    async def slow() -> AsyncIterator[bytes]:
        async for piece in pieces(noise(11 * MIB)):
            yield piece
            await asyncio.sleep(0.05)

    job = asyncio.ensure_future(place.store.put(place.at("a"), slow()))
    while not await look.uploads("", "all"):
        await asyncio.sleep(0.01)
    await place.store.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await job
    assert await look.uploads("", "all") == []
    assert place.api._clients == [], "what tidied up has closed its connections"
    await look.aclose()


# moto answers 500 where S3 answers NoSuchUpload; the other server does not.


async def test_upload_that_somebody_removes_is_a_conflict() -> None:
    place = Place(default_server())
    place.watch()
    place.faults["CompleteMultipartUpload"] = ["removed"]
    with pytest.raises(Conflict):
        await place.store.put(place.at("a"), noise(6 * MIB))
    assert await place.store.head(place.at("a")) is None
    assert await place.open_uploads() == []
    await place.store.aclose()


@pytest.mark.parametrize("fault", ["lost", "refused"])
@pytest.mark.parametrize("method", METHODS)
async def test_one_failure_is_no_failure_on_a_server_that_forgets_completed_uploads(method: str, fault: str) -> None:
    place = Place(default_server())
    place.watch()
    place.faults[method] = [fault]
    data = noise(100 if method == "PutObject" else 11 * MIB)
    await place.store.put(place.at("a"), pieces(data))
    assert await place.content("a") == data
    assert await place.open_uploads() == []
    await place.store.aclose()


async def test_failed_abort_says_what_is_left() -> None:
    place = Place(retry_seconds=0)
    place.watch()
    place.faults |= {"UploadPart": ["refused"], "AbortMultipartUpload": ["refused"]}
    with pytest.raises(Unavailable) as caught:
        await place.store.put(place.at("a"), noise(6 * MIB))
    assert "lifecycle" in caught.value.hint
    assert place.calls.count("AbortMultipartUpload") == 1
    await place.store.aclose()


async def test_upload_without_parts_is_removed_again_while_it_is_there() -> None:
    """What answered the first abort may have been somebody else."""
    place = Place(retry_seconds=0)
    place.watch()
    place.faults |= {"UploadPart": ["refused"], "AbortMultipartUpload": ["ignored"]}
    with pytest.raises(Unavailable):
        await place.store.put(place.at("a"), noise(6 * MIB))
    assert await place.open_uploads() == []
    await place.store.aclose()


async def test_server_that_is_gone_at_the_end_is_asked_once_to_remove_the_upload() -> None:
    place = Place(retry_seconds=0)
    place.watch()
    place.faults |= {"CompleteMultipartUpload": ["refused"], "AbortMultipartUpload": ["refused"]}
    with pytest.raises(Unavailable, match="complete") as caught:
        await place.store.put(place.at("a"), noise(6 * MIB))
    assert "lifecycle" in caught.value.hint
    assert place.calls.count("AbortMultipartUpload") == 1
    await place.store.aclose()


# Copies.


AS_FOUND = answer(200, ETag=ETAG, Last_Modified="Thu, 26 Nov 2026 05:07:09 GMT")

COPYING: list[Callable[[], S3Server]] = [moto_server]
"""Servers that copy by parts: rclone's does not."""
if os.environ.get("GRAVITON_TEST_S3_URL"):
    COPYING.append(default_server)


@pytest.mark.parametrize("server", COPYING, ids=lambda one: one.__name__)
async def test_large_object_is_copied_by_parts_inside_the_server(server: Callable[[], S3Server]) -> None:
    place = Place(server())
    place.watch()
    data = noise(2 * PART + 1)
    await place.store.put(place.at("a"), data)
    place.calls.clear()
    stat = await place.store.copy(place.at("a"), place.at("b"))
    assert stat.size == len(data)
    assert place.calls.count("UploadPartCopy") == 3
    assert "GetObject" not in place.calls
    assert await place.content("b") == data
    assert await place.open_uploads() == []
    await place.store.aclose()


@pytest.mark.parametrize("server", COPYING, ids=lambda one: one.__name__)
@pytest.mark.parametrize("by", ["put", "delete"])
async def test_copy_of_what_is_replaced_meanwhile_is_a_conflict(server: Callable[[], S3Server], by: str) -> None:
    """Also on a server that does not look at the condition of the parts, where it would be half of each."""
    place = Place(server(), parallel_parts=1)
    await place.store.put(place.at("a"), noise(2 * PART + 1))
    await place.store.put(place.at("b"), b"old")
    copy_part = place.api.copy_part

    async def watched(upload: Upload, number: int, *others: Any) -> Part:
        part = await copy_part(upload, number, *others)
        if (number, by) == (1, "put"):
            await place.store.put(place.at("a"), noise(2 * PART + 1, 1))
        if (number, by) == (3, "delete"):
            await place.store.delete(place.at("a"))
        return part

    place.api.copy_part = watched  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await place.store.copy(place.at("a"), place.at("b"))
    assert await place.content("b") == b"old"
    assert await place.open_uploads() == []
    await place.store.aclose()


@pytest.mark.parametrize("lost", [False, True])
async def test_small_copy_of_what_is_replaced_meanwhile_is_a_conflict(lost: bool) -> None:
    """Else it would be told as large as what was there before."""
    conditions: list[bytes] = []

    async def server(head: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"HEAD"):
            writer.write(answer(404, x_amz_request_id="7") if b"/b " in head.split(b"\r\n")[0] else AS_FOUND)
        else:
            conditions.extend(line for line in head.lower().split(b"\r\n") if line.startswith(b"x-amz-copy-source-if"))
            writer.write(answer(503) if lost and len(conditions) == 1 else answer(412, "PreconditionFailed"))
        writer.close()

    async with listening(server) as endpoint:
        store = S3MutableObjectStore(settings(endpoint, retry_seconds=5))
        with pytest.raises(Conflict):
            await store.copy(Locator("s3", "a-bucket", "a"), Locator("s3", "a-bucket", "b"))
        assert set(conditions) == {b"x-amz-copy-source-if-match: " + ETAG.encode()}
        await store.aclose()


async def test_copy_by_parts_keeps_the_metadata_of_others(place: Place) -> None:
    client = place.api._opened()
    data = noise(PART + 1)
    client.put_object(Bucket=place.bucket, Key="a", Body=data, Metadata={"colour": "blue"}, ContentType="text/plain")
    await place.store.copy(place.at("a"), place.at("b"))
    head = client.head_object(Bucket=place.bucket, Key="b")
    assert head["Metadata"]["colour"] == "blue"
    assert head["ContentType"] == "text/plain"


@pytest.mark.parametrize("fault", ["lost", "refused"])
@pytest.mark.parametrize("method", ["UploadPartCopy", "CopyObject"])
async def test_copy_survives_one_failure(place: Place, method: str, fault: str) -> None:
    data = noise(PART + 1 if method == "UploadPartCopy" else 100)
    await place.store.put(place.at("a"), data)
    place.faults[method] = [fault]
    await place.store.copy(place.at("a"), place.at("b"))
    assert await place.content("b") == data
    assert await place.open_uploads() == []


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize("fault", ["lost", "refused"])
async def test_copy_of_what_is_deleted_after_a_lost_reply_is_looked_up(fault: str, by_parts: bool) -> None:
    """Also of an object that was made by parts, whose copy has another ETag."""
    place = Place(copy_part_bytes=5 * 1024**3)
    place.watch()
    data = noise(PART + 1) if by_parts else b"here"
    await place.store.put(place.at("a"), data)
    assert ("-" in (await place.api.head("a", "a")).etag) is by_parts  # type: ignore[union-attr]
    place.faults["CopyObject"] = [fault]
    copy = place.api.requests._once

    async def once(operation: str, *others: Any) -> Any:
        try:
            return await copy(operation, *others)
        finally:
            if operation == "copy":
                place.api._opened().delete_object(Bucket=place.bucket, Key="a")

    place.api.requests._once = once  # type: ignore[method-assign]
    if fault == "lost":
        assert (await place.store.copy(place.at("a"), place.at("b"))).size == len(data)
        assert await place.content("b") == data
    else:
        with pytest.raises(NotFound):
            await place.store.copy(place.at("a"), place.at("b"))
    await place.store.aclose()


async def test_cancelled_copy_leaves_nothing_open(place: Place) -> None:
    await place.store.put(place.at("a"), noise(4 * PART))
    for delay in (0.0, 0.01, 0.02, 0.04, 0.06):
        job = asyncio.ensure_future(place.store.copy(place.at("a"), place.at("b")))
        await asyncio.wait([job], timeout=delay)
        job.cancel()
        await asyncio.wait([job])
        assert await place.open_uploads() == []


# Reads.


async def test_get_goes_on_after_a_failure_where_it_was(place: Place) -> None:
    data = noise(11 * MIB)
    await place.store.put(place.at("a"), data)
    place.faults["GetObject"] = ["", "lost", "refused", ""]
    assert await place.content("a") == data


async def test_object_replaced_while_it_is_read_is_a_conflict(place: Place) -> None:
    await place.store.put(place.at("a"), noise(11 * MIB))
    reader = await place.store.get(place.at("a"))
    got = [await anext(reader)]
    await place.store.put(place.at("a"), noise(11 * MIB, 1))
    with pytest.raises(Conflict):
        got.extend([piece async for piece in reader])
    assert noise(11 * MIB).startswith(b"".join(got))


async def test_reader_that_is_cancelled_while_it_closes_is_cancelled(place: Place) -> None:
    await place.store.put(place.at("a"), noise(11 * MIB))
    arrived, go_on = asyncio.Event(), asyncio.Event()
    get = place.api.get

    async def slow(*arguments: Any) -> Piece:
        arrived.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)  # as a thread does, whose request is waited for
            raise
        return await get(*arguments)

    async def use() -> None:
        async with aclosing(await place.store.get(place.at("a"))) as reader:  # type: ignore[type-var]
            place.api.get = slow  # type: ignore[method-assign]
            await anext(reader)
            await arrived.wait()
        await asyncio.sleep(0)
        raise AssertionError("went on as if nothing had happened")

    job = asyncio.ensure_future(use())
    await arrived.wait()
    await asyncio.sleep(0.02)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


async def test_get_of_a_span_asks_for_no_more(place: Place) -> None:
    data = noise(11 * MIB)
    await place.store.put(place.at("a"), data)
    span = Span(5 * MIB + 3, 10 * MIB + 4)
    assert (
        b"".join([piece async for piece in await place.store.get(place.at("a"), span)]) == data[span.start : span.end]
    )


# Bounds and names.


@pytest.mark.parametrize("part_bytes", [PART, 8 * MIB, 64 * MIB])
def test_ten_thousand_parts_take_five_tebibytes(part_bytes: int) -> None:
    config = moto_server().config("bucket", part_bytes=part_bytes)
    plan = part_plan(S3Api.of(config), part_bytes)
    done = number = largest = held = 0
    while done < 5 * 1024**4:
        largest = plan.next_bytes(done)
        held = max(held, plan.may_hold(largest) * largest)
        done, number = done + largest, number + 1
    assert number <= 10_000
    assert largest <= 5 * 1024**3
    assert held <= 2 * largest
    assert plan.next_bytes(10 * 1024**3) <= max(part_bytes, 9 * MIB)
    known = part_plan(S3Api.of(config), part_bytes, 5 * 1024**4)
    assert -(-5 * 1024**4 // known.part_bytes) <= 10_000


async def test_key_of_more_than_1024_bytes_is_refused(place: Place) -> None:
    for path in ("p" * (MAX_KEY_BYTES + 1), "ä" * 513):
        with pytest.raises(InvalidInput, match="1024"):
            await place.store.put(place.at(path), b"")
    await place.store.put(place.at("ä" * 512), b"longest")
    assert await place.content("ä" * 512) == b"longest"


async def test_bucket_that_is_not_there_is_told_and_is_not_absence() -> None:
    store = S3MutableObjectStore(moto_server().config("no-such-bucket-here", retry_seconds=0))
    locator = Locator("s3", "no-such-bucket-here", "a")
    for call in (store.head(locator), store.put(locator, b""), store.delete(locator), store.get(locator)):
        with pytest.raises(ConfigError, match="no-such-bucket-here") as caught:
            await call
        assert "graviton store init" in caught.value.hint
    assert await make_bucket(store.config, store.api.requests) is True
    assert await store.head(locator) is None
    await store.aclose()


async def test_bucket_of_another_region_is_made_once() -> None:
    name = f"test-{secrets.token_hex(6)}"
    api = S3Api.of(moto_server().config(name, region="eu-central-1"))
    assert await make_bucket(api.config, api.requests) is True
    assert await make_bucket(api.config, api.requests) is False
    await api.check_bucket()
    told = api._opened().get_bucket_location(Bucket=name)
    assert told["LocationConstraint"] == "eu-central-1"
    await api.aclose()


async def test_objects_with_names_that_are_no_paths_are_not_listed(place: Place) -> None:
    client = place.api._opened()
    for key in ("folder/", "with blank", "a//b", "good"):
        client.put_object(Bucket=place.bucket, Key=key, Body=b"x")
    assert [stat.locator.path async for stat in place.store.list()] == ["good"]


async def test_request_that_is_cancelled_stops_sending(place: Place) -> None:
    """A part that nobody wants is not sent to its end: the upload is gone as fast as that."""
    from graviton.backends.objectstore._bodies import Body
    from graviton.concurrency.calls import CallCancelled, CancelFlag

    flag = CancelFlag()
    with Body(memoryview(b"0123456789"), flag) as body:
        assert bytes(body.read(3)) == b"012"
        assert (body.tell(), len(body)) == (3, 10)
        assert (body.seek(-2, 2), bytes(body.read())) == (8, b"89")
        flag.cancelled = True
        assert bytes(body.read(1)) == b"", "the server has all of it, so its answer is waited for"
        body.seek(3)
        with pytest.raises(CallCancelled):
            body.read(1)
