"""Resumable uploads over real sockets: by tus clients, by curl's kind of requests, broken and resumed."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3
from tusclient.client import TusClient

from tests.server.serving import Answer, Served, raw_head

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_TYPE = {"Content-Type": "application/offset+octet-stream"}
NOBODY = "0" * 32
DIGEST = f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"


def id_of(data: bytes) -> str:
    return f"blake3:{blake3(data).hexdigest()}:{len(data)}"


def begin(server: Served, length: int | None, **headers: str) -> str:
    """The address of a new upload."""
    said = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = server.request("POST", "/api/uploads", headers=TUS | said | named)
    assert answer.status == 201, answer
    return answer.headers["location"]


def patch(server: Served, address: str, offset: int, data: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("PATCH", address, data, TUS | OFFSET_TYPE | {"Upload-Offset": str(offset)} | named)


def part(server: Served, address: str, start: int, data: bytes, total: int | str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    span = f"bytes {start}-{start + len(data) - 1}/{total}"
    return server.request("PUT", address, data, {"Content-Range": span} | named)


def offset_of(server: Served, address: str) -> int:
    answer = server.request("HEAD", address, headers=TUS)
    assert answer.status == 200, answer
    return int(answer.headers["upload-offset"])


def leftovers(root: Path) -> list[Path]:
    return [path for path in (root / "uploads").rglob("*") if path.is_file()]


def test_what_uploads_can_do_is_told(server: Served) -> None:
    answer = server.request("OPTIONS", "/api/uploads")
    assert answer.status == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert "concatenation" in answer.headers["tus-extension"].split(",")
    assert "sha1" in answer.headers["tus-checksum-algorithm"].split(",")
    assert int(answer.headers["tus-max-size"]) == 1 << 40


@pytest.mark.parametrize("chunk", [70_000, 1 << 20, 1 << 30])
@pytest.mark.parametrize("checksum", [False, True])
def test_a_published_client_uploads_unchanged(server: Served, tmp_path: Path, chunk: int, checksum: bool) -> None:
    data = os.urandom(1_300_000)
    file = tmp_path / "some file.bin"
    file.write_bytes(data)
    client = TusClient(f"{server.url}/api/uploads")
    metadata = {"filename": file.name, "filetype": "video/mp4", "album": "summer"}
    with file.open("rb") as stream:
        uploader = client.uploader(file_stream=stream, chunk_size=chunk, metadata=metadata, upload_checksum=checksum)
        uploader.upload()
    address = uploader.url.removeprefix(server.url)
    done = server.request("HEAD", address, headers=TUS)
    assert done.headers["x-graviton-blob-id"] == id_of(data)
    stat = server.request("GET", f"/api/blobs/{id_of(data)}/stat").json
    assert (stat["name"], stat["mime"], stat["attributes"]["user.album"]) == ("some file.bin", "video/mp4", "summer")
    assert server.request("GET", f"/api/blobs/{id_of(data)}").body == data


def test_the_client_goes_on_after_an_interruption(server: Served) -> None:
    data = os.urandom(900_000)
    client = TusClient(f"{server.url}/api/uploads")
    first = client.uploader(file_stream=io.BytesIO(data), chunk_size=200_000)
    first.upload_chunk()
    second = client.uploader(file_stream=io.BytesIO(data), chunk_size=200_000, url=first.url)
    assert second.offset == 200_000
    second.upload()
    assert server.request("GET", f"/api/blobs/{id_of(data)}").body == data


def test_the_last_answer_has_the_blob_and_asking_again_gives_the_same(server: Served) -> None:
    data = os.urandom(300_000)
    address = begin(server, len(data))
    assert patch(server, address, 0, data[:100_000]).headers["upload-offset"] == "100000"
    last = patch(server, address, 100_000, data[100_000:])
    assert (last.status, last.headers["x-graviton-blob-id"]) == (204, id_of(data))
    state = server.request("GET", address).json
    assert (state["state"], state["blob"], state["offset"]) == ("done", id_of(data), len(data))
    again = patch(server, address, len(data), b"")
    assert (again.status, again.headers["x-graviton-blob-id"]) == (204, id_of(data))


def test_bytes_of_a_broken_connection_are_kept(server: Served) -> None:
    data = os.urandom(500_000)
    address = begin(server, len(data))
    with server.connect() as connection:
        connection.sendall(
            raw_head(
                "PATCH",
                address,
                "Tus-Resumable: 1.0.0",
                "Upload-Offset: 0",
                "Content-Type: application/offset+octet-stream",
                f"Content-Length: {len(data)}",
            )
        )
        connection.sendall(data[:222_222])
    deadline = time.monotonic() + 30
    while (offset := offset_of(server, address)) < 222_222 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert offset == 222_222
    assert patch(server, address, offset, data[offset:]).headers["x-graviton-blob-id"] == id_of(data)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_in_between_costs_nothing_that_was_told(tmp_path: Path, signum: signal.Signals) -> None:
    root, data = tmp_path / "store", os.urandom(2_000_000)
    with Served(root, "--grace", "0", GRAVITON_CHUNKER="fixed-v1:64KiB") as server:
        address = begin(server, len(data))
        patch(server, address, 0, data[:700_001])
        part(server, address, 1_500_000, data[1_500_000:1_600_000], len(data))
        with server.connect() as connection:
            connection.sendall(
                raw_head(
                    "PATCH",
                    address,
                    "Tus-Resumable: 1.0.0",
                    "Upload-Offset: 700001",
                    "Content-Type: application/offset+octet-stream",
                    "Content-Length: 700000",
                )
            )
            connection.sendall(data[700_001:1_000_000])
            server.process.send_signal(signum)
            server.process.wait(60)
    with Served(root) as server:
        offset = offset_of(server, address)
        assert 700_001 <= offset <= 1_000_000
        missing = server.request("GET", f"{address}/missing").json["missing"]
        assert missing == [
            {"offset": offset, "size": 1_500_000 - offset},
            {"offset": 1_600_000, "size": 400_000},
        ]
        for start, end in ((offset, 1_500_000), (1_600_000, len(data))):
            last = part(server, address, start, data[start:end], len(data))
        assert last.headers["x-graviton-blob-id"] == id_of(data)
        assert server.request("GET", f"/api/blobs/{id_of(data)}").body == data
        assert not leftovers(root)


def test_parts_come_in_any_order_and_side_by_side(server: Served) -> None:
    data = os.urandom(1_000_000)
    address = begin(server, len(data))
    starts = list(range(0, len(data), 90_000))
    random.Random(1).shuffle(starts)
    answers: list[Answer] = []

    def send(some: list[int]) -> None:
        answers.extend(part(server, address, at, data[at : at + 90_000], len(data)) for at in some)

    senders = [threading.Thread(target=send, args=[starts[first::4]]) for first in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(answers) == len(starts)
    assert {answer.status for answer in answers} <= {202, 204}
    deadline = time.monotonic() + 30
    while (state := server.request("GET", address).json)["state"] != "done" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state["blob"] == id_of(data)
    assert server.request("GET", f"/api/blobs/{id_of(data)}").body == data


def test_parts_that_overlap_must_agree(server: Served) -> None:
    data = os.urandom(300_000)
    address = begin(server, len(data))
    assert part(server, address, 100_000, data[100_000:200_000], len(data)).status == 204
    assert part(server, address, 100_000, data[100_000:200_000], len(data)).status == 204
    assert part(server, address, 150_000, data[150_000:250_000], len(data)).status == 204
    other = part(server, address, 240_000, os.urandom(60_000), len(data))
    assert (other.status, other.json["error"]) == (409, "conflict")
    assert part(server, address, 250_000, data[250_000:], len(data)).status == 204
    last = part(server, address, 0, data[:120_000], len(data))
    assert last.headers["x-graviton-blob-id"] == id_of(data)


@pytest.mark.parametrize("start", [0, 300_000])
def test_a_part_that_is_shorter_than_it_says_is_400(server: Served, start: int) -> None:
    data = os.urandom(500_000)
    address = begin(server, len(data))
    said = {"Content-Range": f"bytes {start}-{start + 99_999}/{len(data)}"}
    answer = server.request("PUT", address, data[start : start + 40_000], said)
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert offset_of(server, address) == (0 if start else 40_000)  # what came in order stays, as of a PATCH


def test_a_part_with_a_wrong_digest_is_not_kept(server: Served) -> None:
    data = os.urandom(100_000)
    address = begin(server, len(data))
    wrong = f"sha-256=:{base64.b64encode(hashlib.sha256(b'other').digest()).decode()}:"
    assert part(server, address, 50_000, data[50_000:], len(data), Content_Digest=wrong).status == 422
    assert server.request("GET", f"{address}/missing").json["missing"] == [{"offset": 0, "size": len(data)}]
    right = f"sha-256=:{base64.b64encode(hashlib.sha256(data[50_000:]).digest()).decode()}:"
    assert part(server, address, 50_000, data[50_000:], len(data), Content_Digest=right).status == 204


@pytest.mark.parametrize("algo", ["sha1", "sha256", "md5"])
def test_a_wrong_checksum_is_460_and_nothing_of_it_is_kept(server: Served, algo: str) -> None:
    data = os.urandom(200_000)
    address = begin(server, len(data))
    digest = base64.b64encode(hashlib.new(algo, data).digest()).decode()
    wrong = patch(server, address, 0, data[:-1] + b"x", Upload_Checksum=f"{algo} {digest}")
    assert wrong.status in (204, 460)
    if data[-1:] != b"x":
        assert (wrong.status, wrong.json["error"]) == (460, "digest_mismatch")
        assert offset_of(server, address) == 0
        assert patch(server, address, 0, data, Upload_Checksum=f"{algo} {digest}").status == 204


def test_another_offset_is_409_and_changes_nothing(server: Served) -> None:
    address = begin(server, 10)
    patch(server, address, 0, b"01234")
    for offset in (0, 4, 6, 10):
        answer = patch(server, address, offset, b"x")
        assert (answer.status, answer.headers["upload-offset"]) == (409, "5")
    assert offset_of(server, address) == 5


def test_more_than_was_announced_is_413(server: Served) -> None:
    address = begin(server, 3)
    assert patch(server, address, 0, b"1234").status == 413
    assert part(server, address, 0, b"1234", 4).status == 409
    too_large = server.request("POST", "/api/uploads", headers=TUS | {"Upload-Length": str((1 << 40) + 1)})
    assert too_large.status == 413


def test_a_length_may_be_said_later(server: Served) -> None:
    address = begin(server, None)
    first = patch(server, address, 0, b"hello ")
    assert first.headers["upload-defer-length"] == "1"
    assert server.request("GET", f"{address}/missing").json["missing"] == [{"offset": 6, "size": None}]
    last = patch(server, address, 6, b"world", Upload_Length="11")
    assert last.headers["x-graviton-blob-id"] == id_of(b"hello world")


def test_the_first_bytes_may_come_with_the_creation(server: Served) -> None:
    headers = TUS | OFFSET_TYPE | {"Upload-Length": "11"}
    some = server.request("POST", "/api/uploads", b"hello", headers)
    assert (some.status, some.headers["upload-offset"]) == (201, "5")
    whole = server.request("POST", "/api/uploads", b"hello world", headers)
    assert (whole.status, whole.headers["x-graviton-blob-id"]) == (201, id_of(b"hello world"))


def test_an_upload_that_was_begun_in_vain_is_gone(tmp_path: Path) -> None:
    """Nobody was told where it is."""
    wrong = base64.b64encode(bytes(20)).decode()
    with Served(tmp_path / "store") as server:
        for body, length, more, status in (
            (b"hello", 5, {"Upload-Checksum": f"sha1 {wrong}"}, 460),
            (b"hello", 5, {"X-Graviton-Expected-Id": id_of(b"hullo")}, 422),
            (b"hello", 4, {}, 413),
            (iter([b"hel", b"lo"]), 4, {}, 413),
            (None, 0, {"X-Graviton-Expected-Id": id_of(b"hello").replace(":5", ":0")}, 422),
        ):
            headers = TUS | {"Upload-Length": str(length)} | (OFFSET_TYPE if body else {}) | more
            assert server.request("POST", "/api/uploads", body, headers).status == status
            assert server.request("GET", "/api/uploads").json["uploads"] == []
        with server.connect() as connection:
            length_too = ("Upload-Length: 500000", "Content-Length: 500000")
            connection.sendall(
                raw_head("POST", "/api/uploads", f"Content-Type: {OFFSET_TYPE['Content-Type']}", *length_too)
            )
            connection.sendall(bytes(200_000))
        server.line(route="/api/uploads", status=499)
        assert server.request("GET", "/api/uploads").json["uploads"] == []
        assert not leftovers(tmp_path / "store")


def test_an_upload_of_nothing_is_the_empty_blob(server: Served) -> None:
    answer = server.request("POST", "/api/uploads", headers=TUS | {"Upload-Length": "0"})
    assert (answer.status, answer.headers["x-graviton-blob-id"]) == (201, id_of(b""))


def test_partial_uploads_become_one(server: Served) -> None:
    pieces = [os.urandom(200_000), os.urandom(100_001), b"", os.urandom(5)]
    addresses = []
    for piece in pieces:
        addresses.append(begin(server, len(piece), Upload_Concat="partial"))
        if piece:
            answer = patch(server, addresses[-1], 0, piece)
            assert "x-graviton-blob-id" not in answer.headers
    final = "final;" + " ".join(addresses)
    answer = server.request("POST", "/api/uploads", headers=TUS | {"Upload-Concat": final})
    whole = b"".join(pieces)
    assert (answer.status, answer.headers["x-graviton-blob-id"]) == (201, id_of(whole))
    head = server.request("HEAD", answer.headers["location"], headers=TUS)
    assert (head.headers["upload-concat"], head.headers["upload-length"]) == (final, str(len(whole)))
    for offset, data in ((0, b"x"), (len(whole), b"")):  # tus has a status for this
        assert patch(server, answer.headers["location"], offset, data).status == 403
    assert part(server, answer.headers["location"], 0, b"x", len(whole)).status == 409
    assert server.request("GET", f"/api/blobs/{id_of(whole)}").body == whole


def test_partial_uploads_are_not_more_together_than_a_blob_may_be(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_HTTP_MAX_BLOB_BYTES="1000") as server:
        address = begin(server, 300, Upload_Concat="partial")
        patch(server, address, 0, bytes(300))
        for times, status in ((4, 413), (3, 201)):
            headers = TUS | {"Upload-Concat": "final;" + " ".join([address] * times)}
            assert server.request("POST", "/api/uploads", headers=headers).status == status
        assert server.request("GET", "/api/stats").json["logical_bytes"] == 900


def test_what_is_not_complete_is_not_put_together(server: Served) -> None:
    address = begin(server, 5, Upload_Concat="partial")
    headers = TUS | {"Upload-Concat": f"final;{address}"}
    assert server.request("POST", "/api/uploads", headers=headers).status == 409
    headers = TUS | {"Upload-Concat": f"final;/api/uploads/{NOBODY}"}
    assert server.request("POST", "/api/uploads", headers=headers).status == 404


def test_another_blob_than_was_expected_is_422_and_leaves_nothing(tmp_path: Path) -> None:
    with Served(tmp_path / "store") as server:
        address = begin(server, 5, X_Graviton_Expected_Id=id_of(b"hello"))
        last = patch(server, address, 0, b"hullo")
        assert (last.status, last.json["error"]) == (422, "digest_mismatch")
        assert server.request("GET", address).json["state"] == "failed"
        assert patch(server, address, 5, b"").status == 422  # the answer was lost, say
        assert patch(server, address, 0, b"hello").status == 422
        assert part(server, address, 0, b"hello", 5).status == 422
        assert server.request("GET", "/api/stats").json["blobs"] == 0
        assert not leftovers(tmp_path / "store")
        right = begin(server, 5, X_Graviton_Expected_Id=id_of(b"hello"))
        assert patch(server, right, 0, b"hello").headers["x-graviton-blob-id"] == id_of(b"hello")


def test_a_terminated_upload_leaves_nothing(tmp_path: Path) -> None:
    with Served(tmp_path / "store") as server:
        address = begin(server, 10_000_000)
        part(server, address, 5_000_000, os.urandom(1_000_000), 10_000_000)
        patch(server, address, 0, os.urandom(100_000))
        assert leftovers(tmp_path / "store")
        assert server.request("DELETE", address, headers=TUS).status == 204
        assert server.request("HEAD", address, headers=TUS).status == 404
        assert patch(server, address, 100_000, b"x").status == 404
        assert server.request("DELETE", address, headers=TUS).status == 404
        assert not leftovers(tmp_path / "store")
        assert server.request("GET", "/api/uploads").json == {"uploads": [], "next": None, "unreadable": []}


def test_uploads_are_listed_page_by_page(tmp_path: Path) -> None:
    with Served(tmp_path / "store") as server:
        made = sorted(begin(server, 5).rpartition("/")[2] for _ in range(5))
        first = server.request("GET", "/api/uploads?limit=3").json
        rest = server.request("GET", f"/api/uploads?limit=3&after={first['next']}").json
        assert [one["upload"] for one in first["uploads"] + rest["uploads"]] == made
        assert rest["next"] is None


def test_post_may_stand_for_other_methods(server: Served) -> None:
    address = begin(server, 5)
    headers = TUS | OFFSET_TYPE | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert server.request("POST", address, b"he", headers).status == 204
    assert offset_of(server, address) == 2
    assert server.request("POST", address, headers=TUS | {"X-HTTP-Method-Override": "DELETE"}).status == 204
    assert server.request("POST", address, headers=TUS | {"X-HTTP-Method-Override": "PUT"}).status == 400


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/uploads", {"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 412),
        ("POST", "/api/uploads", {"Upload-Length": "-5"}, 400),
        ("POST", "/api/uploads", {"Upload-Length": "5", "Upload-Metadata": "ä"}, 400),
        ("POST", "/api/uploads", {"Upload-Defer-Length": "2"}, 400),
        ("POST", "/api/uploads", TUS, 400),
        ("POST", "/api/uploads", {"Upload-Length": "5", "Upload-Concat": "partial", "Repr-Digest": DIGEST}, 400),
        ("POST", "/api/uploads", {"Upload-Defer-Length": "1", "Upload-Length": "5"}, 400),
        ("HEAD", f"/api/uploads/{NOBODY}", TUS, 404),
        ("GET", f"/api/uploads/{NOBODY}", {}, 404),
        ("GET", f"/api/uploads/{NOBODY}/missing", {}, 404),
        ("DELETE", f"/api/uploads/{NOBODY}", TUS, 404),
        ("PATCH", f"/api/uploads/{NOBODY}", TUS | OFFSET_TYPE | {"Upload-Offset": "0"}, 404),
        ("PATCH", f"/api/uploads/{NOBODY}", TUS | {"Upload-Offset": "0"}, 415),
        ("PATCH", f"/api/uploads/{NOBODY}", TUS | OFFSET_TYPE, 400),
        ("PATCH", f"/api/uploads/{NOBODY}", TUS | OFFSET_TYPE | {"Upload-Offset": "x"}, 400),
        ("PUT", f"/api/uploads/{NOBODY}", {}, 400),
        ("PUT", f"/api/uploads/{NOBODY}", {"Content-Range": "bytes 0-4/3"}, 400),
        ("GET", "/api/uploads/..%2f..%2fetc", {}, 400),
        ("GET", "/api/uploads/" + "A" * 32, {}, 400),
        ("GET", "/api/uploads?limit=0", {}, 400),
        ("GET", "/api/uploads?after=x", {}, 400),
    ],
)
def test_what_cannot_be_is_a_problem(
    server: Served, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = server.request(method, path, b"" if method in ("PATCH", "PUT") else None, headers)
    assert answer.status == status, answer
    assert answer.headers["tus-resumable"] == "1.0.0"
    if method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"


def test_workers_share_uploads(tmp_path: Path) -> None:
    data = os.urandom(1_500_000)
    with Served(tmp_path / "store", "--workers", "2", GRAVITON_CHUNKER="fixed-v1:64KiB") as server:
        address = begin(server, len(data))
        for at in range(0, len(data), 100_000):  # each on a connection of its own, which either worker takes
            answer = patch(server, address, at, data[at : at + 100_000])
            assert answer.status == 204, answer
        assert answer.headers["x-graviton-blob-id"] == id_of(data)
        assert server.request("GET", f"/api/blobs/{id_of(data)}").body == data
