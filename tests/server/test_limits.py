"""Limits by configuration, as clients of a server meet them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import graviton.sync
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from tests.server.serving import Answer, Served, raw_head


def quota(server: Served) -> dict[tuple[str, str], float]:
    """What `/metrics` says of the quota."""
    text = server.request("GET", "/metrics").body.decode()
    found = re.findall(r'^graviton_quota_(\w+)\{kind="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {(unit, kind): float(value) for unit, kind, value in found}


def test_a_quota_that_is_used_up_and_given_back(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_QUOTA_BYTES="1000000", GRAVITON_QUOTA_BLOBS="2") as server:
        blob = server.put(os.urandom(600_000))
        assert quota(server) == {
            ("bytes", "used"): 600_000,
            ("bytes", "reserved"): 0,
            ("bytes", "limit"): 1_000_000,
            ("blobs", "used"): 1,
            ("blobs", "reserved"): 0,
            ("blobs", "limit"): 2,
        }
        told = server.request("GET", "/api/stats").json["quota"]
        assert (told["used_bytes"], told["limit_bytes"], told["holder_limit_bytes"]) == (600_000, 1_000_000, None)
        with graviton.sync.open(server.url) as store:
            assert store.quota_use()._asdict() == told
        refused = server.request("POST", "/api/blobs", os.urandom(600_000))
        assert (refused.status, refused.json["error"]) == (507, "storage_full")
        assert server.request("DELETE", f"/api/blobs/{blob}").status == 204
        assert quota(server)["bytes", "used"] == 0
        server.put(os.urandom(600_000))
        assert quota(server)["blobs", "used"] == 1


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that has room for 100 KB beside a blob of 600 KB."""
    with Served(tmp_path_factory.mktemp("full") / "store", GRAVITON_QUOTA_BYTES="700000") as server:
        server.put(LARGE)
        yield server


LARGE = os.urandom(600_000)
SMALL = os.urandom(90_000)


def expecting(server: Served, path: str, size: int, *headers: str) -> bytes:
    """The first that comes when a client waits for leave to send `size` bytes."""
    with server.connect() as connection:
        head = raw_head("POST", path, f"Content-Length: {size}", "Expect: 100-continue", "Connection: close", *headers)
        connection.sendall(head)
        return connection.recv(12)


def test_what_is_there_is_taken_again_where_there_is_no_room(full: Served) -> None:
    for body in (LARGE, iter([LARGE[:1000], LARGE[1000:]])):
        assert full.request("POST", "/api/blobs", body).status == 200
    small = full.put(SMALL)
    assert full.put(SMALL) == small
    assert full.request("POST", "/api/blobs", os.urandom(90_000)).status == 507
    assert full.request("DELETE", f"/api/blobs/{small}").status == 204


def test_what_cannot_fit_is_refused_before_it_is_sent_unless_it_may_be_there(full: Served) -> None:
    there = BlobKey(HashAlgo.BLAKE3.digest(LARGE), len(LARGE))
    other = BlobKey(HashAlgo.BLAKE3.digest(b"other"), len(LARGE))
    expected = "X-Graviton-Expected-Id: {}"
    assert expecting(full, "/api/blobs", 600_001) == b"HTTP/1.1 507"
    assert expecting(full, "/api/blobs", 600_000, expected.format(other)) == b"HTTP/1.1 507"
    for headers in ([], [expected.format(there)]):
        assert expecting(full, "/api/blobs", 600_000, *headers) == b"HTTP/1.1 100"
    assert full.request("POST", "/api/blobs", os.urandom(600_000)).status == 507
    for headers in ({}, {"X-Graviton-Expected-Id": there.text}):
        assert full.request("POST", "/api/blobs", LARGE, headers).status == 200
    assert quota(full)["bytes", "reserved"] == 0


def test_an_upload_that_cannot_fit_is_not_begun_unless_it_may_be_there(full: Served) -> None:
    def begin(size: int, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return full.request("POST", "/api/uploads", headers={"Upload-Length": str(size), **named})

    other = BlobKey(HashAlgo.BLAKE3.digest(b"other"), len(LARGE))
    assert begin(600_001).status == begin(600_000, X_Graviton_Expected_Id=other.text).status == 507
    for body, status in ((LARGE, 204), (os.urandom(600_000), 507)):
        begun = begin(600_000)
        assert begun.status == 201
        patch = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        answer = full.request("PATCH", begun.headers["location"], body, patch)
        assert answer.status == status
        assert full.request("DELETE", begun.headers["location"]).status == 204
    assert quota(full)["bytes", "reserved"] == 0


def test_no_more_uploads_are_open_than_may_be(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_UPLOAD_MAX_OPEN="1") as server:
        begun = server.request("POST", "/api/uploads", headers={"Upload-Length": "5"})
        for concat in ({}, {"Upload-Concat": "partial"}):
            refused = server.request("POST", "/api/uploads", headers={"Upload-Length": "5", **concat})
            assert (refused.status, refused.json["error"]) == (429, "too_many_requests")
            assert refused.headers["retry-after"] == "60"
        server.put(b"whole blobs are none")
        assert server.request("DELETE", begun.headers["location"]).status == 204
        assert server.request("POST", "/api/uploads", headers={"Upload-Length": "5"}).status == 201


def test_a_body_with_a_checksum_is_no_larger_than_what_may_wait(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_SPILL_BYTES="2MiB") as server:
        body = os.urandom(4 << 20)
        address = server.request("POST", "/api/uploads", headers={"Upload-Length": str(len(body))}).headers["location"]
        headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        checksum = {"Upload-Checksum": "sha1 " + base64.b64encode(hashlib.sha1(body).digest()).decode()}
        refused = server.request("PATCH", address, body, headers | checksum)
        assert (refused.status, refused.json["error"]) == (413, "limit_exceeded")
        assert "GRAVITON_SPILL_BYTES" in refused.json["hint"]
        assert str(tmp_path) not in refused.body.decode(), "where the server puts them is nobody's business"
        assert server.request("HEAD", address).headers["upload-offset"] == "0"
        assert server.request("PATCH", address, body, headers).status == 204


def test_requests_per_second_are_limited_but_for_who_asks_after_its_health(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_HTTP_REQUEST_RATE="1") as server:
        answers = [server.request("GET", "/api/schema/nothing") for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert {answer.status for answer in answers} <= {404, 429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {server.request("GET", "/api/health").status for _ in range(20)} == {200}
