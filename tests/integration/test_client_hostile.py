"""What a client makes of servers that lie, talk rubbish, or do not talk: never wrong bytes, never without end."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from graviton.backends.http import HttpBlobStore, HttpConfig
from graviton.backends.http import requests as http_requests
from graviton.constraints.budget import ByteBudget
from graviton.core.attribute_text import encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.policies import BlobWritePlan
from graviton.core.ranges import Span
from graviton.core.secret import Secret
from graviton.errors import (
    AlreadyExists,
    Conflict,
    DigestMismatch,
    GravitonError,
    IntegrityError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Retired,
    Retry,
    StorageFull,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from graviton.services.findings import Damage, Part
from graviton.services.verify_reading import ReadVerification
from tests.canned_server import CannedServer, Exchange, answer, problem

MIB = 1024 * 1024
TOKEN = "the-token-that-nobody-else-may-see"
BLAKE3 = BlobWritePlan(hash=HashAlgo.BLAKE3)
NO_ATTRIBUTES = encode_attributes(BinaryAttributes.EMPTY)


@pytest.fixture
async def server() -> AsyncIterator[CannedServer]:
    async with CannedServer() as made:
        yield made


def client(server: CannedServer, **options: float) -> HttpBlobStore:
    config = HttpConfig(server.url, Secret(TOKEN), **{"retry_seconds": 0.0, "idle_seconds": 5.0, **options})  # type: ignore[arg-type]
    return HttpBlobStore(config, budget=ByteBudget())


def key_of(data: bytes) -> BlobKey:
    return BlobKey(HashAlgo.BLAKE3.digest(data), len(data))


def blob(data: bytes, status: int = 200, **headers: str) -> bytes:
    return answer(status, data, X_Graviton_Attributes=NO_ATTRIBUTES, ETag='"x"', **headers)


def put_answer(key: BlobKey, created: int = 1) -> bytes:
    did = f"created={created}, blocks=1, cut-blocks=1, fresh-blocks=1, fresh-bytes=1, repaired-blocks=0"
    headers = {"X_Graviton_Blob_Id": key.text, "X_Graviton_Put": did, "X_Graviton_Attributes": NO_ATTRIBUTES}
    return answer(201, b'"id"', **headers)


async def pieces_until_error(store: HttpBlobStore, key: BlobKey, span: Span | None = None) -> tuple[bytes, Exception]:
    got = b""
    try:
        async with await store.get(key, span) as reader:
            async for piece in reader:
                got += piece
    except GravitonError as error:
        return got, error
    raise AssertionError("no error")


@pytest.mark.parametrize("size", [10, MIB, MIB + 1, 3 * MIB, 3 * MIB + 77])
async def test_other_bytes_never_leave_as_a_whole(server: CannedServer, size: int) -> None:
    right, wrong = bytes(size), bytes(size - 1) + b"\1"
    server.on("GET", "/api/blobs/", blob(wrong))
    async with client(server) as store:
        got, error = await pieces_until_error(store, key_of(right))
        assert isinstance(error, IntegrityError)
        assert key_of(right).text in error.subject
        assert len(got) < size
        assert size > MIB or got == b"", "a small blob is looked at before any of it leaves"
        with pytest.raises(IntegrityError):
            async with await store.get(key_of(right)) as reader:
                await reader.read()


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (None, blob(bytes(50))),
        (None, blob(bytes(101))),
        (None, blob(bytes(100), 206, Content_Range="bytes 0-99/100")),
        (None, blob(bytes(100), Content_Encoding="gzip")),
        (Span(10, 20), blob(bytes(100))),
        (Span(10, 20), blob(bytes(10), 206)),
        (Span(10, 20), blob(bytes(10), 206, Content_Range="bytes 11-20/100")),
        (Span(10, 20), blob(bytes(10), 206, Content_Range="bytes 10-19/200")),
        (Span(10, 20), blob(bytes(9), 206, Content_Range="bytes 10-19/100")),
        (None, answer(302, Location="http://127.0.0.1:1/")),
        (None, answer(404, b"<html>not here</html>")),
        (None, b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        (None, b"HTTP/1.1 200 OK\r\n" + b"X: %s\r\n" % (b"y" * 100_000) + b"\r\n"),
        (None, b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n"),
        (None, blob(bytes(100)).replace(NO_ATTRIBUTES.encode(), b"not base64!")),
    ],
)
async def test_answers_that_are_none_are_unavailable(server: CannedServer, span: Span | None, said: bytes) -> None:
    server.on("GET", "/", said)
    async with client(server, idle_seconds=1.0) as store:
        got, error = await pieces_until_error(store, key_of(bytes(100)), span)
    assert got == b""
    assert isinstance(error, Unavailable), error


async def test_small_blob_that_breaks_off_is_looked_at_before_any_of_it_leaves(server: CannedServer) -> None:
    wrong = b"\1" * 5000

    async def half(exchange: Exchange) -> None:
        exchange.writer.write(blob(wrong)[:-2500])
        await exchange.writer.drain()
        exchange.writer.close()

    rest = blob(wrong[2500:], 206, Content_Range="bytes 2500-4999/5000")
    server.on("GET", "/api/blobs/", half, rest)
    async with client(server, retry_seconds=5) as store:
        got, error = await pieces_until_error(store, key_of(bytes(5000)))
    assert (got, type(error)) == (b"", IntegrityError)
    assert server.asked[-1].headers["range"] == "bytes=2500-4999"
    assert server.asked[-1].headers["if-range"] == '"x"'


async def test_body_without_end_is_left_at_its_size(server: CannedServer) -> None:
    data = os.urandom(3 * MIB)

    async def endless(exchange: Exchange) -> None:
        head = blob(b"", Content_Length="", Transfer_Encoding="chunked")
        exchange.writer.write(head)
        for start in range(0, len(data), 65536):
            piece = data[start : start + 65536]
            exchange.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        while True:
            exchange.writer.write(b"10000\r\n%s\r\n" % bytes(65536))
            await exchange.writer.drain()

    server.on("GET", "/api/blobs/", endless)
    async with client(server) as store, await store.get(key_of(data)) as reader:
        assert await reader.read() == data


async def test_json_without_end_is_left(server: CannedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(exchange: Exchange) -> None:
        exchange.writer.write(answer(200, Content_Length="", Transfer_Encoding="chunked"))
        while True:
            exchange.writer.write(b"10000\r\n%s\r\n" % (b"[" * 65536))
            await exchange.writer.drain()

    async def dripping(exchange: Exchange) -> None:
        exchange.writer.write(answer(200, Content_Length="1000"))
        while True:
            exchange.writer.write(b" ")
            await asyncio.sleep(0.01)

    monkeypatch.setattr(http_requests, "_ANSWER_SECONDS", 0.2)
    async with client(server) as store:
        for said in (endless, dripping, answer(200, b"[" * 100_000), answer(200, b"{}"), answer(200, b"null")):
            server.on("GET", "/", said)
            with pytest.raises(Unavailable):
                await store.stat(key_of(b"x"))
            with pytest.raises(Unavailable):
                await store.totals()
            with pytest.raises(Unavailable):
                _ = [stat async for stat in store.list()]
            with pytest.raises(Unavailable):
                _ = [entry async for entry in store.manifest(key_of(b"x"))]


def described(key: BlobKey, **changes: Any) -> dict[str, Any]:
    found = {
        "id": key.text,
        "size": key.size,
        "blocks": 1,
        "chunker": "",
        "created": "2026-01-31T12:34:56.123456789Z",
        "advertised": {"user.name": {"value": "a", "source": "cli", "at": "2026-01-31T12:34:56.000000000Z"}},
        "confirmed": {},
    }
    return found | changes


async def test_stat_is_read_strictly(server: CannedServer) -> None:
    key = key_of(b"x")
    async with client(server) as store:
        server.on("GET", "/", answer(200, json.dumps(described(key, news="x")).encode()))
        found = await store.stat(key)
        assert found is not None
        assert found.attributes.file_name == "a"
        assert found.created_at_ns % 10**9 == 123_456_789
        stamp = {"value": "a", "source": "cli", "at": "2026-01-31T12:34:56.000000000Z"}
        wrong: list[dict[str, Any]] = [
            {"id": key_of(b"y").text}, {"id": 5}, {"blocks": -1}, {"blocks": True}, {"blocks": 2**63},
            {"chunker": None}, {"created": "today"}, {"created": "2026-01-31T12:34:56Z"}, {"advertised": []},
            {"confirmed": None},
            {"advertised": {"bad name": stamp}}, {"advertised": {"user.x": stamp | {"value": 5}}},
            {"advertised": {"user.x": stamp | {"source": "two words"}}},
            {"advertised": {"graviton.digest.md5": stamp}}, {"advertised": {"graviton.digest.blake3": stamp}},
        ]  # fmt: skip
        for change in wrong:
            server.on("GET", "/", answer(200, json.dumps(described(key, **change)).encode()))
            with pytest.raises(Unavailable):
                await store.stat(key)


async def test_listing_that_goes_round_in_circles_ends(server: CannedServer) -> None:
    one, two = sorted((key_of(b"1"), key_of(b"2")), key=lambda key: key.text)

    def page(keys: list[BlobKey], following: BlobKey | None) -> bytes:
        found = {"blobs": [described(key) for key in keys], "next": following and following.text, "unreadable": []}
        return answer(200, json.dumps(found).encode())

    wrong = [
        [page([one], one), page([one], one)], [page([two, one], None)], [page([one, one], None)],
        [page([], two), page([], two)], [page([one, two], one)],
    ]  # fmt: skip
    async with client(server) as store:
        for answers in wrong:
            server.on("GET", "/", *answers)
            with pytest.raises(Unavailable):
                _ = [stat async for stat in store.list()]
        server.on("GET", "/", page([one, two], None))
        with pytest.raises(Unavailable):
            _ = [stat async for stat in store.list(prefix=one.text)]
        server.on("GET", "/", page([one], one), page([], two), page([], None))
        assert [stat.key async for stat in store.list()] == [one]


async def test_page_that_is_too_large_is_asked_for_in_parts(
    server: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = sorted((key_of(b"%d" % n) for n in range(40)), key=lambda key: key.text)

    async def page(exchange: Exchange) -> None:
        query = dict(pair.split("=") for pair in exchange.asked.target.partition("?")[2].split("&"))
        start = [key.text.replace(":", "%3A") for key in keys].index(query["after"]) + 1 if "after" in query else 0
        some = keys[start : start + int(query["limit"])]
        end = start + len(some) == len(keys)
        found = {"blobs": [described(key) for key in some], "next": None if end else some[-1].text, "unreadable": []}
        exchange.writer.write(answer(200, json.dumps(found).encode()))

    monkeypatch.setattr(http_requests, "MAX_JSON_BYTES", 3_000)
    server.on("GET", "/api/blobs", page)
    async with client(server) as store:
        assert [stat.key async for stat in store.list()] == keys


async def test_id_that_is_not_that_of_the_bytes_is_refused_and_taken_away(server: CannedServer) -> None:
    other = key_of(b"something else")
    server.on("POST", "/api/blobs", put_answer(other))
    server.on("DELETE", "/api/blobs", answer(204, Content_Length=""))
    async with client(server) as store:
        with pytest.raises(DigestMismatch):
            await store.put(b"the bytes")
        assert [(one.method, one.target) for one in server.asked][-1] == ("DELETE", f"/api/blobs/{other.text}")
        server.on("POST", "/api/blobs", put_answer(other, created=0))
        before = len(server.asked)
        with pytest.raises(DigestMismatch):
            await store.put(b"the bytes")
        assert len(server.asked) == before + 1, "what was there before stays"
        server.on("POST", "/api/blobs", put_answer(key_of(b"the bytes")))
        assert (await store.put(b"the bytes")).key == key_of(b"the bytes")
        for said in (answer(201, b'"x"'), answer(200, b""), put_answer(other).replace(b"blocks=1", b"blocks=x")):
            server.on("POST", "/api/blobs", said)
            with pytest.raises(Unavailable):
                await store.put(b"the bytes")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (problem(400, "invalid_input"), InvalidInput), (problem(401, "unauthenticated"), Unauthenticated),
        (problem(403, "permission_denied"), PermissionDenied), (problem(403, "retired"), Retired),
        (problem(409, "already_exists"), AlreadyExists), (problem(409, "conflict"), Conflict),
        (problem(412, "precondition_failed"), PreconditionFailed), (problem(413, "limit_exceeded"), LimitExceeded),
        (problem(422, "digest_mismatch"), DigestMismatch), (problem(429, "too_many_requests"), TooManyRequests),
        (problem(500, "integrity"), IntegrityError), (problem(501, "unsupported"), Unsupported),
        (problem(503, "unavailable"), Unavailable), (problem(507, "storage_full"), StorageFull),
        (problem(500, "error"), GravitonError), (problem(413, "never heard of"), LimitExceeded),
        (answer(401), Unauthenticated), (answer(403), PermissionDenied), (answer(413), LimitExceeded),
        (answer(418), InvalidInput), (answer(500), Unavailable), (answer(502), Unavailable), (answer(505), Unavailable),
        (answer(507), StorageFull), (answer(307, Location="/"), Unavailable), (answer(404), Unavailable),
        (answer(403, b"{", Content_Type="application/problem+json"), PermissionDenied),
        (answer(403, b"[]", Content_Type="application/problem+json"), PermissionDenied),
    ],
)  # fmt: skip
async def test_errors_of_the_server_are_raised_as_what_they_are(
    server: CannedServer, said: bytes, kind: type[GravitonError]
) -> None:
    server.on("POST", "/api/blobs", said)
    async with client(server) as store:
        with pytest.raises(kind) as caught:
            await store.put(b"x", BLAKE3)
    assert type(caught.value) is kind
    if b"planned" in said:
        assert (caught.value.message, caught.value.subject) == ("planned", "s")


async def test_verification_tells_what_does_not_fit(server: CannedServer) -> None:
    right, wrong = bytes(100), bytes(99) + b"\1"
    key, gone = key_of(right), key_of(b"gone")
    halves = [BlockKey(HashAlgo.BLAKE3.digest(half), 50) for half in (wrong[:50], wrong[50:])]
    first, last = sorted((key, gone), key=lambda one: one.text)
    listed = {"blobs": [described(first), described(last)], "next": None, "unreadable": ["blake3:x"]}
    server.on("GET", "/api/blobs?", answer(200, json.dumps(listed).encode()))
    server.on("GET", f"/api/blobs/{gone.text}", problem(404, "not_found"))
    parts = [blob(wrong[at : at + 50], 206, Content_Range=f"bytes {at}-{at + 49}/100") for at in (0, 50)]
    server.on("GET", f"/api/blobs/{key.text}", blob(wrong), *parts)
    blocks = [{"key": half.text, "offset": at, "size": 50} for half, at in zip(halves, (0, 50), strict=True)]
    manifest = {"id": key.text, "blocks": blocks, "next": None}
    server.on("GET", f"/api/blobs/{key.text}/manifest", answer(200, json.dumps(manifest).encode()))
    found: list[Damage] = []
    async with client(server) as store, ReadVerification(store, found.append, progress=lambda count: None) as run:
        await run.everything()
        assert (run.summary.blobs, run.summary.damaged_blobs, run.summary.damages) == (1, 1, 2)
        with pytest.raises(NotFound):
            await run.blobs([gone])
    assert {damage.part for damage in found} == {Part.STORE, Part.BLOB}
    assert not run.summary.is_clean


async def test_text_of_the_server_is_short_and_plain(server: CannedServer) -> None:
    told = {"error": "conflict", "message": "\x1b[2Jred\n" + "x" * 10_000, "subject": {}, "hint": 5}
    server.on("GET", "/", answer(409, json.dumps(told).encode(), Content_Type="application/problem+json"))
    async with client(server) as store:
        with pytest.raises(Conflict) as caught:
            await store.totals()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) <= 400


async def test_token_goes_to_the_server_and_nowhere_else(server: CannedServer) -> None:
    async with CannedServer() as other:
        other.on("GET", "/", answer(200, b"{}"))
        server.on("GET", "/", *(answer(status, Location=f"{other.url}/api") for status in (301, 302, 303, 307, 308)))
        server.on("POST", "/api/uploads", answer(201, Location=f"{other.url}/api/uploads/abc"))
        server.on(
            "OPTIONS", "/", answer(204, Content_Length="", Tus_Version="1.0.0", Tus_Extension="creation,termination")
        )
        server.on("PATCH", "/", problem(403, "permission_denied"))
        async with client(server, resumable_bytes=10) as store:
            for _ in range(5):
                with pytest.raises(Unavailable):
                    await store.totals()
            with pytest.raises(PermissionDenied):
                await store.put(bytes(2 * MIB), BLAKE3)
        assert other.asked == []
    assert {one.headers["authorization"] for one in server.asked} == {f"Bearer {TOKEN}"}
    assert [one.target for one in server.asked if one.method == "PATCH"] == ["/api/uploads/abc"]
    assert TOKEN not in repr(store.config)


async def test_blob_that_takes_long_to_finish_is_waited_for(
    server: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of tus has no other status than 204 for bytes that it took: it says in a header that it is at it."""
    monkeypatch.setattr("graviton.backends.http.uploads._ASK_SECONDS", 0.01)
    data = bytes(2 * MIB)
    key = key_of(data).text
    did = "blocks=1, cut-blocks=1, fresh-blocks=1, fresh-bytes=2097152, repaired-blocks=0, created=1"
    told = {"Upload_Offset": str(len(data)), "Content_Length": ""}
    finishing = {**told, "X_Graviton_Upload_State": "finishing", "Location": "/api/uploads/abc"}
    done = {**told, "X_Graviton_Upload_State": "done", "X_Graviton_Blob_Id": key, "X_Graviton_Put": did}
    server.on("OPTIONS", "/", answer(204, Content_Length="", Tus_Version="1.0.0", Tus_Extension="creation,termination"))
    server.on("POST", "/api/uploads", answer(201, Location="/api/uploads/abc"))
    server.on(
        "PATCH",
        "/",
        answer(204, **finishing),
        answer(202, **finishing, **{"Content-Length": "0"}),
        answer(204, **done, X_Graviton_Chunker="c", X_Graviton_Attributes=NO_ATTRIBUTES),
    )
    async with client(server, resumable_bytes=10) as store:
        assert (await store.put(data, BLAKE3)).key.text == key
    assert [len(one.body) for one in server.asked if one.method == "PATCH"] == [len(data), 0, 0]
    assert "DELETE" not in {one.method for one in server.asked}


async def test_busy_server_is_asked_again_when_it_says(server: CannedServer) -> None:
    key = key_of(b"x")
    for status, code in ((429, "too_many_requests"), (503, "unavailable")):
        server.on("POST", "/", problem(status, code, Retry_After="1"), put_answer(key))
        async with client(server, retry_seconds=5) as store:
            began = time.monotonic()
            assert (await store.put(b"x")).key == key
            assert time.monotonic() - began >= 1.0
        server.on("POST", "/", problem(status, code, Retry_After="1000"))
        before = len(server.asked)
        async with client(server, retry_seconds=5) as store:
            with pytest.raises((TooManyRequests, Unavailable)) as caught:
                await store.put(b"x")
        assert caught.value.retry is Retry.EXHAUSTED
        assert len(server.asked) == before + 1, "nobody waits for that long"


async def test_only_what_may_pass_is_tried_again(server: CannedServer) -> None:
    async with client(server, retry_seconds=2) as store:
        for said in (problem(409, "conflict"), problem(507, "storage_full"), answer(404), answer(505)):
            server.on("GET", "/", said)
            before = len(server.asked)
            with pytest.raises(GravitonError):
                await store.totals()
            assert len(server.asked) == before + 1
        for said in (problem(503, "unavailable"), answer(500)):
            server.on("DELETE", "/", said)
            before = len(server.asked)
            with pytest.raises(Unavailable):
                await store.delete(key_of(b"x"))
            assert len(server.asked) == before + 1, "it may have been deleted"
        server.on("DELETE", "/", problem(429, "too_many_requests"), answer(204, Content_Length=""))
        assert await store.delete(key_of(b"x")) is True


async def test_server_that_takes_or_says_nothing_is_left(server: CannedServer) -> None:
    async def silent(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async def stuck(exchange: Exchange) -> None:
        exchange.writer.write(blob(b"x" * 10, Content_Length=str(3 * MIB)))
        await asyncio.sleep(60)

    async with client(server, idle_seconds=0.2) as store:
        server.on("GET", "/", silent)
        with pytest.raises(Unavailable):
            await store.totals()
        server.on("GET", "/", stuck)
        with pytest.raises(Unavailable):
            async with await store.get(key_of(bytes(3 * MIB))) as reader:
                await reader.read()
        server.on("POST", "/", silent)
        with pytest.raises(Unavailable):
            await store.put(b"x")


async def test_server_that_stops_reading_is_left() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(60)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)
            await asyncio.sleep(0)

    async with CannedServer(deaf) as server, client(server, idle_seconds=0.3) as store:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(store.put(endless(), BLAKE3), 20)


async def test_slow_source_is_waited_for(server: CannedServer) -> None:
    data = bytes(2 * MIB)

    async def slow() -> AsyncIterator[bytes]:
        yield data[:MIB]
        yield data[MIB : MIB + 1]
        await asyncio.sleep(0.8)
        yield data[MIB + 1 :]

    server.on("POST", "/", put_answer(key_of(data)))
    async with client(server, idle_seconds=0.3) as store:
        assert (await store.put(slow(), BLAKE3)).key == key_of(data)


async def test_who_is_refused_sends_no_body() -> None:
    taken = 0

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(problem(401, "unauthenticated"))
        await writer.drain()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += MIB
            yield bytes(MIB)

    async with CannedServer(refuses) as server, client(server) as store:
        with pytest.raises(Unauthenticated):
            await store.put(endless(), BLAKE3)
    assert taken <= 2 * MIB


@pytest.mark.parametrize("refuses", [False, True])
async def test_body_is_sent_unasked_where_nobody_asks_for_it(refuses: bool) -> None:
    """Some that stand between do not understand `Expect: 100-continue`, or keep its answer for themselves."""
    data = os.urandom(2 * MIB)

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"100-continue" in head:
            if refuses:
                writer.write(answer(417))
            await reader.read()
            return
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(put_answer(key_of(data)))

    async def once() -> AsyncIterator[bytes]:
        yield data

    async with CannedServer(old, limit=4 * MIB) as server, client(server, idle_seconds=0.3) as store:
        for _ in range(2):
            assert (await asyncio.wait_for(store.put(once(), BLAKE3), 20)).key == key_of(data)
        assert server.connections == 3, "it asks once"


async def test_server_that_is_not_there_is_told_of_soon() -> None:
    async with HttpBlobStore(HttpConfig("http://127.0.0.1:9"), budget=ByteBudget()) as store:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="cannot be reached"):
            await store.totals()
        assert time.monotonic() - began < 10


async def test_empty_reads_and_wrong_spans_are_decided_without_bytes(server: CannedServer) -> None:
    async with client(server) as store:
        with pytest.raises(NotFound):
            await store.get(key_of(b"x"), Span(5, 9))
