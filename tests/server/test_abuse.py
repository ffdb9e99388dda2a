"""Clients that are slow, loud, or up to something: what they cost is bounded, and others are served meanwhile."""

from __future__ import annotations

import re
import select
import socket
import time
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.cli_process import wait_for
from tests.server.serving import Served, raw_head, read_all


def status_of(answer: bytes) -> int:
    """Of raw bytes; 0 if there is no answer."""
    found = re.match(rb"HTTP/1.[01] ([0-9]{3}) ", answer)
    return int(found[1]) if found else 0


def test_who_never_ends_his_head_is_dropped_and_others_are_served(server: Served) -> None:
    """Silent from the beginning, in the middle of a head, byte by byte, and idle after a request."""
    began = time.monotonic()
    silent = [server.connect() for _ in range(30)]
    partial, dribbling, idle = server.connect(), server.connect(), server.connect()
    partial.sendall(b"GET /api/health HTTP/1.1\r\nHost: local")
    idle.sendall(raw_head("GET", "/api/health"))
    assert idle.recv(1000).startswith(b"HTTP/1.1 200")
    dribbling.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n")
    left: set[socket.socket] = {partial, dribbling, idle, *silent}
    for one in left:
        one.setblocking(False)
    while left:
        assert time.monotonic() - began < 60, "still there"
        assert server.request("GET", "/api/health").status == 200
        try:
            dribbling.send(b"X-A: b\r\n" if dribbling in left else b"")
        except OSError:
            left.discard(dribbling)
        for one in left.copy():
            try:
                if one.recv(1000) == b"":
                    left.discard(one)
            except BlockingIOError:
                pass
            except OSError:
                left.discard(one)
        time.sleep(0.25)
    for one in (partial, dribbling, idle, *silent):
        one.close()


@pytest.mark.parametrize("count", [200, 20_000])
def test_floods_of_headers_are_refused(server: Served, count: int) -> None:
    answer = server.talk(raw_head("GET", "/api/health", *[f"X-{n}: a" for n in range(count)]))
    assert status_of(answer) in (0, 431)
    assert server.request("GET", "/api/health").status == 200


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_large_heads_are_refused(server: Served, size: int) -> None:
    answer = server.talk(raw_head("GET", "/api/health", "X-A: " + "a" * size))
    assert status_of(answer) in (0, 431)
    assert server.request("GET", "/api/health").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/api/blobs/../../../etc/passwd",
        "/api/blobs/..%2f..%2f..%2fetc%2fpasswd",
        "/api/blobs/%2e%2e/%2e%2e/etc/passwd",
        "/api/blobs/..%5c..%5cetc",
        "/api/blobs/%00",
        "//etc/passwd",
        "/api/schema/..",
        "/" + "a" * 5000,
    ],
)
def test_paths_lead_nowhere_else(server: Served, path: str) -> None:
    answer = server.talk(raw_head("GET", path, "Connection: close"))
    assert status_of(answer) == 400, answer
    assert b"application/problem+json" in answer
    assert b"root:" not in answer


def test_an_id_has_one_spelling(server: Served) -> None:
    blob = server.put(b"spelling")
    assert server.request("GET", f"/api/blobs/{blob.replace(':', '%3A')}").body == b"spelling"
    for other in (blob.upper(), blob + "0", blob.replace(":8", ":08"), blob + "%20", blob + "/", "blake3:" + blob):
        answer = server.request("GET", f"/api/blobs/{other}")
        assert answer.status in (400, 404) or other.endswith("/"), other


@settings(max_examples=60)
@given(st.text(max_size=120) | st.text("blake3sha256:-0123456789abcdef", max_size=100))
def test_whatever_the_id_is_it_is_answered(server: Served, text: str) -> None:
    for path in (f"/api/blobs/{quote(text, safe='')}", f"/api/blobs/{quote(text, safe='')}/stat"):
        answer = server.request("GET", path)
        assert answer.status in (400, 404, 405, 200)
        assert answer.status != 200 or text in ("", ".")


@settings(max_examples=60)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                b"GET ",
                b"/",
                b" HTTP/1.1",
                b"\r\n",
                b"Host: localhost",
                b"Content-Length: ",
                b"1",
                b"\0",
                b"PRI * HTTP/2.0",
                b"chunked",
                b"Transfer-Encoding: ",
            ]
        )
    ).map(b"".join)
)
def test_whatever_bytes_come_the_server_lives(server: Served, raw: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(raw + b"\r\n\r\n")
        with suppress(OSError):  # it may have been closed already
            connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert server.process.poll() is None


def test_questions_that_are_kept_in_memory_are_so_many(server: Served) -> None:
    """Each may be a megabyte, and there may be thousands of connections."""
    head = raw_head("POST", "/api/blobs/exists", "Content-Length: 1000000")
    asking = [server.connect() for _ in range(150)]
    try:
        for one in asking:
            one.sendall(head + b'{"ids":["')
        wait_for(lambda: select.select(asking, [], [], 0)[0] != [])
        answer = select.select(asking, [], [], 0)[0][0].recv(2000)
        assert status_of(answer) == 429
        assert b"retry-after: 10" in answer
    finally:
        for one in asking:
            one.close()
    wait_for(lambda: server.request("POST", "/api/blobs/exists", b'{"ids":[]}').status == 200)


def test_the_server_is_still_well(server: Served) -> None:
    wait_for(lambda: server.request("GET", "/api/health/ready").status == 200)


def test_a_request_by_another_name_is_refused(server: Served) -> None:
    for name in ("evil.example", f"evil.example:{server.port}"):
        answer = server.request("GET", "/api/stats", headers={"Host": name})
        assert (answer.status, answer.json["error"]) == (403, "permission_denied")
    answer = server.request("POST", "/api/blobs", b"x", {"Origin": "https://evil.example"})
    assert answer.status == 403
    assert server.request("GET", "/api/stats", headers={"Host": f"localhost:{server.port}"}).status == 200


def test_pipelined_requests_are_answered_in_order(server: Served) -> None:
    blob = server.put(b"pipelined")
    sent = (
        raw_head("GET", "/api/health")
        + raw_head("GET", f"/api/blobs/{blob}")
        + raw_head("GET", "/api/nothing", "Connection: close")
    )
    answer = server.talk(sent)
    assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d{3})", answer)] == [200, 200, 404]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Transfer-Encoding: chunked", b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", b"nonsense\r\n"),
        ("Content-Length: 10", b"half"),
    ],
)
def test_a_body_that_is_none_is_answered_as_every_error(server: Served, head: str, body: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(raw_head("POST", "/api/blobs", head) + body)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert status_of(answer) == 400, answer
    assert b"application/problem+json" in answer


def test_a_body_that_is_coded_for_its_way_is_not_stored_so(server: Served) -> None:
    head = raw_head("POST", "/api/blobs", "Transfer-Encoding: gzip, chunked", "Connection: close")
    answer = server.talk(head + b"5\r\nhello\r\n0\r\n\r\n")
    assert status_of(answer) == 400, answer
    assert b"transfer-encoding" in answer


def test_a_request_with_two_lengths_is_refused(server: Served) -> None:
    answer = server.talk(raw_head("POST", "/api/blobs", "Content-Length: 3", "Content-Length: 4") + b"abcd")
    assert status_of(answer) == 400
