"""What is put comes back, and everything that is said about it."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from blake3 import blake3

from graviton.core.hashing import HashAlgo
from graviton.server.http.digests import digest_field
from tests.server.serving import Served

HELLO = f"blake3:{blake3(b'hello').hexdigest()}:5"
NOWHERE = f"blake3:{'0' * 64}:1"


def test_a_blob_goes_in_and_comes_out(server: Served) -> None:
    data = os.urandom(200_000)
    blob = f"blake3:{blake3(data).hexdigest()}:200000"
    put = server.request("POST", "/api/blobs", data)
    assert (put.status, put.json) == (201, blob)
    assert put.headers["location"] == f"/api/blobs/{blob}"
    assert put.headers["etag"] == f'"{blob}"'
    assert put.headers["x-graviton-blob-id"] == blob
    assert put.headers["x-graviton-chunker"] == "fixed-v1:65536"
    assert "blocks=4, cut-blocks=4, fresh-blocks=4, fresh-bytes=200000" in put.headers["x-graviton-put"]
    again = server.request("POST", "/api/blobs", data)
    assert (again.status, again.json) == (200, blob)
    assert "fresh-blocks=0" in again.headers["x-graviton-put"]
    got = server.request("GET", put.headers["location"])
    assert (got.status, got.body) == (200, data)
    assert got.headers["content-length"] == "200000"
    assert got.headers["etag"] == f'"{blob}"'
    assert got.headers["accept-ranges"] == "bytes"
    assert got.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]
    assert got.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("size", [0, 1, 65_536, 262_144, 262_145, 3_000_000])
def test_sizes(server: Served, size: int) -> None:
    data = os.urandom(size)
    blob = server.put(data)
    assert server.request("GET", f"/api/blobs/{blob}").body == data
    chunked = server.request("POST", "/api/blobs", iter([data[:7], data[7:]]))
    assert (chunked.status, chunked.json) == (200, blob)


def test_head_says_what_get_would(server: Served) -> None:
    blob = server.put(b"some bytes", Content_Type="text/plain", Content_Disposition="attachment; filename=a.txt")
    got, head = (server.request(method, f"/api/blobs/{blob}") for method in ("GET", "HEAD"))
    ours = {name: value for name, value in got.headers.items() if name not in ("date", "x-trace-id")}
    assert {name: value for name, value in head.headers.items() if name not in ("date", "x-trace-id")} == ours
    assert (head.status, head.body) == (200, b"")
    ranged = server.request("HEAD", f"/api/blobs/{blob}", headers={"Range": "bytes=0-1"})
    assert (ranged.status, ranged.headers["content-length"]) == (200, "10")
    assert server.request("HEAD", f"/api/blobs/{NOWHERE}").status == 404


def test_what_the_client_says_is_kept(server: Served) -> None:
    blob = server.put(
        b"a picture",
        Content_Type="image/png",
        Content_Disposition="attachment; filename*=UTF-8''Z%C3%BCrich.png",
        X_Graviton_Attr_Color="bright%20red",
    )
    stat = server.request("GET", f"/api/blobs/{blob}/stat").json
    assert (stat["id"], stat["size"], stat["blocks"], stat["hash"]) == (blob, 9, 1, "blake3")
    assert (stat["name"], stat["mime"]) == ("Zürich.png", "image/png")
    assert stat["attributes"]["user.color"] == "bright red"
    assert stat["advertised"]["user.color"] == stat["advertised"]["user.name"] | {"value": "bright red"}
    assert stat["confirmed"]["graviton.size"]["value"] == 9
    assert stat["created"].endswith("Z")
    got = server.request("GET", f"/api/blobs/{blob}")
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-disposition"] == "inline; filename=\"Z_rich.png\"; filename*=UTF-8''Z%C3%BCrich.png"


def test_a_stored_page_does_not_run(server: Served) -> None:
    blob = server.put(b"<script>alert(1)</script>", Content_Type="text/html")
    got = server.request("GET", f"/api/blobs/{blob}")
    assert got.headers["content-type"] == "text/html"
    assert got.headers["content-disposition"] == "attachment"
    assert got.headers["content-security-policy"].startswith("sandbox")


def test_another_hash_and_chunker(server: Served) -> None:
    data = os.urandom(100_000)
    put = server.request(
        "POST", "/api/blobs", data, {"X-Graviton-Hash": "sha256", "X-Graviton-Chunker": "fixed-v1:1000"}
    )
    assert put.json == f"sha256:{hashlib.sha256(data).hexdigest()}:100000"
    assert put.headers["x-graviton-put"].startswith("blocks=100,")
    assert server.request("GET", f"/api/blobs/{put.json.replace('sha256', 'sha-256')}").body == data


def count(server: Served) -> int:
    blobs: int = server.request("GET", "/api/stats").json["blobs"]
    return blobs


@pytest.mark.parametrize("data", [b"small", os.urandom(300_000)])
def test_bytes_with_another_digest_are_refused_and_nothing_is_kept(server: Served, data: bytes) -> None:
    right, wrong = digest_field(HashAlgo.SHA256.digest(data)), digest_field(HashAlgo.SHA256.digest(b"other"))
    blob = f"blake3:{blake3(data).hexdigest()}:{len(data)}"
    before = count(server)
    bad = [
        {"Content-Digest": wrong},
        {"Repr-Digest": wrong},
        {"Content-Digest": right, "Repr-Digest": wrong},
        {"X-Graviton-Expected-Id": HELLO},
        {"X-Graviton-Expected-Id": f"blake3:{blake3(data).hexdigest()}:{len(data) + 1}"},
        {"X-Graviton-Expected-Id": f"sha256:{hashlib.sha256(b'').hexdigest()}:{len(data)}"},
    ]
    for headers in bad:
        answer = server.request("POST", "/api/blobs", data, headers)
        assert (answer.status, answer.json["error"]) == (422, "digest_mismatch"), headers
    assert server.request("HEAD", f"/api/blobs/{blob}").status == 404
    assert count(server) == before
    good = {"Content-Digest": right, "Repr-Digest": right, "X-Graviton-Expected-Id": blob}
    assert server.request("POST", "/api/blobs", data, good).json == blob
    sha = f"sha256:{hashlib.sha256(data).hexdigest()}:{len(data)}"
    assert server.request("POST", "/api/blobs", data, {"X-Graviton-Expected-Id": sha}).json == sha


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Content-Digest", "nonsense"),
        ("Repr-Digest", "md5=:AAAA:"),
        ("X-Graviton-Expected-Id", "nonsense"),
        ("X-Graviton-Hash", "md5"),
        ("X-Graviton-Chunker", "fixed-v1"),
        ("X-Graviton-Attr-", "x"),
        ("Content-Type", "multipart/form-data; boundary=x"),
        ("Content-Disposition", "attachment; filename"),
        ("Content-Encoding", "gzip"),
    ],
)
def test_headers_that_are_malformed_are_named(server: Served, header: str, value: str) -> None:
    answer = server.request("POST", "/api/blobs", b"x", {header: value})
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert header.lower() in answer.json["subject"].lower() or header.lower() in answer.json["detail"].lower()


def test_a_blob_is_removed_and_brought_back(server: Served) -> None:
    blob = server.put(b"to be removed")
    path = f"/api/blobs/{blob}"
    gone = server.request("DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    for method, address in (("DELETE", path), ("GET", path), ("GET", f"{path}/stat"), ("GET", f"{path}/manifest")):
        answer = server.request(method, address)
        assert (answer.status, answer.json["error"]) == (404, "not_found")
    back = server.request("POST", f"{path}/undelete")
    assert (back.status, back.json["id"]) == (200, blob)
    assert server.request("GET", path).body == b"to be removed"
    assert server.request("POST", f"/api/blobs/{NOWHERE}/undelete").status == 404


def test_blocks_are_listed_by_pages(server: Served) -> None:
    data = os.urandom(10 * 65_536 + 5)
    path = f"/api/blobs/{server.put(data)}/manifest"
    whole = server.request("GET", path).json
    assert [(one["offset"], one["size"]) for one in whole["blocks"]] == [
        (at, min(65_536, len(data) - at)) for at in range(0, len(data), 65_536)
    ]
    assert whole["next"] is None
    first = whole["blocks"][0]
    assert first["key"] == f"blake3:{blake3(data[:65_536]).hexdigest()}:65536"
    paged, after = [], 0
    while after is not None:
        page = server.request("GET", f"{path}?limit=4&after={after}").json
        paged += page["blocks"]
        after = page["next"]
    assert paged == whole["blocks"]
    assert server.request("GET", f"{path}?after=70000&limit=1").json["blocks"][0]["offset"] == 65_536
    assert server.request("GET", f"{path}?after={len(data)}").json == {"id": whole["id"], "blocks": [], "next": None}
    assert server.request("GET", f"{path}?after={len(data) + 1}").status == 416
    empty = server.request("GET", f"/api/blobs/{server.put(b'')}/manifest").json
    assert (empty["blocks"], empty["next"]) == ([], None)


def test_which_of_many_are_there(server: Served) -> None:
    one, two = server.put(b"one"), server.put(b"two")
    ids = json.dumps({"ids": [two, NOWHERE, one]}).encode()
    elsewhere = server.request("POST", "/api/blobs/exists?domain=elsewhere", ids)
    assert elsewhere.json == {"present": []}
    answer = server.request("POST", "/api/blobs/exists", ids)
    assert answer.json == {"present": [two, one]}
    for bad in (b"", b"{}", b"[]", b'{"ids": "x"}', b'{"ids": ["x"]}', b'{"ids": [], "more": 1}', b"\xff"):
        answer = server.request("POST", "/api/blobs/exists", bad)
        assert (answer.status, answer.json["error"]) == (400, "invalid_input"), bad
    many = json.dumps({"ids": [NOWHERE] * 10_001}).encode()
    assert server.request("POST", "/api/blobs/exists", many).status == 400
    assert server.request("POST", "/api/blobs/exists", b" " * (1 << 20) + b"{}").status == 413


def test_stats_and_schemas(server: Served) -> None:
    server.put(b"counted")
    stats = server.request("GET", "/api/stats").json
    assert stats["blobs"] > 0
    assert stats["kernel"] in ("native", "python")
    assert stats["backends"] == {"blocks": "fs", "metadata": "sqlite", "cache": False}
    names = [one["name"] for one in server.request("GET", "/api/schema").json["schemas"]]
    assert "graviton.manifest-page" in names
    schema = server.request("GET", "/api/schema/graviton.manifest-page").json
    assert (schema["version"], schema["base64"]) == (1, None)
    assert schema["text"].startswith("graviton manifest page")
    assert server.request("GET", "/api/schema/graviton.manifest-page?version=1").json == schema
    assert server.request("GET", "/api/schema/graviton.manifest-page?version=9").status == 404
    assert server.request("GET", "/api/schema/nothing").status == 404
    assert server.request("GET", "/api/schema/NO").status == 400


def test_health_and_metrics(server: Served) -> None:
    health = server.request("GET", "/api/health").json
    assert (health["status"], health["uptime"] > 0) == ("ok", True)
    ready = server.request("GET", "/api/health/ready")
    assert (ready.status, ready.json["parts"]) == (200, {"metadata": "ok", "blocks": "ok", "disk": "ok"})
    metrics = server.request("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    text = metrics.body.decode()
    assert 'graviton_http_requests_total{method="GET",route="/api/health",status="200"}' in text
    assert 'graviton_http_request_seconds_bucket{le="+Inf",method="GET",route="/api/health"}' in text
    assert 'graviton_http_in_flight{kind="other"} 1.0' in text


def test_what_is_not_there_and_what_is_not_possible(server: Served) -> None:
    for path in ("/", "/api", "/api/nothing", "/api/blobs/x/y/z", "/favicon.ico"):
        answer = server.request("GET", path)
        assert (answer.status, answer.json["error"]) == (404, "not_found"), path
    answer = server.request("PUT", "/api/blobs", b"x")
    assert (answer.status, answer.json["error"]) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].replace(" ", "").split(","))
    for query in ("limit=0", "limit=1001", "limit=x", "min_size=-1", "after=x", "prefix=zz", "created_after=now"):
        answer = server.request("GET", f"/api/blobs?{query}")
        assert (answer.status, answer.json["error"]) == (400, "invalid_input"), query


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/blobs", "GET, OPTIONS, POST"),
        ("/api/blobs/exists", "OPTIONS, POST"),
        (f"/api/blobs/{NOWHERE}", "DELETE, GET, HEAD, OPTIONS"),
        (f"/api/blobs/{NOWHERE}/stat", "GET, OPTIONS"),
        ("/api/uploads", "GET, OPTIONS, POST"),
        ("/api/uploads/" + "0" * 32, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("/api/health", "GET, OPTIONS"),
        ("/metrics", "GET, OPTIONS"),
    ],
)
def test_options_lists_every_method_of_a_path(server: Served, path: str, methods: str) -> None:
    answer = server.request("OPTIONS", path)
    assert (answer.status, answer.headers["allow"], answer.body) == (204, methods, b"")
