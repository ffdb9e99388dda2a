"""Bodies that do not come to their end, either way: nobody takes half for whole, and nothing is left behind."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sqlite3
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.cli_process import temporary_files, wait_for
from tests.server.serving import Served, block_of, curl, damage, raw_head, read_all

BIG = 24 * 1024 * 1024


def damaged_blob(server: Served, at_block: int) -> tuple[str, bytes]:
    """The address of a blob of 64 blocks, one of them damaged."""
    data = os.urandom(64 * 65_536)
    path = f"/api/blobs/{server.put(data)}"
    blocks = server.request("GET", f"{path}/manifest").json["blocks"]
    damage(block_of(server.root, blocks[at_block]["key"]))
    return path, data


@pytest.mark.parametrize(
    ("protocol", "code"), [("--http1.1", 18), ("--http2-prior-knowledge", 92)], ids=["HTTP/1.1", "HTTP/2"]
)
def test_damage_found_late_ends_the_connection_without_the_end(server: Served, protocol: str, code: int) -> None:
    path, data = damaged_blob(server, 40)
    done = curl(protocol, server.url + path)
    assert done.returncode == code, done.stderr
    assert data.startswith(done.stdout)
    assert len(done.stdout) < len(data)
    line = [one for one in server.lines if one["path"] == path][-1]
    assert (line["status"], line["error"]) == (200, "integrity")


def test_damage_in_a_later_part_ends_the_connection_too(server: Served) -> None:
    path, data = damaged_blob(server, 60)
    done = curl("--http1.1", "-H", "Range: bytes=0-9, 3932160-3932200", server.url + path)
    assert done.returncode == 18, done.stderr
    assert data[:10] in done.stdout
    assert not re.search(rb"--\r\n$", done.stdout)


def test_damage_in_the_first_block_is_a_status(server: Served) -> None:
    path, _ = damaged_blob(server, 0)
    answer = server.request("GET", path)
    assert (answer.status, answer.json["error"]) == (500, "integrity")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "etag" not in answer.headers
    assert str(server.root) not in answer.body.decode()
    assert server.request("GET", path, headers={"Range": "bytes=70000-70010"}).status == 206


def open_sessions(server: Served) -> int:
    """Sessions of puts that have not ended, as the database has them (docs/formats/metadata.md: state 1)."""
    with sqlite3.connect(f"file:{server.root}/meta.sqlite?mode=ro", uri=True) as database:
        [name] = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE name LIKE '%owners%'")]
        return sum(value[1] == 1 for (value,) in database.execute(f"SELECT value FROM {name}"))


def gauge(server: Served, name: str, kind: str) -> float:
    """A number that the server shows."""
    text = server.request("GET", "/metrics").body.decode()
    found = re.search(rf'^{name}{{kind="{kind}"}} (\S+)$', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def in_flight(server: Served, kind: str) -> float:
    return gauge(server, "graviton_http_in_flight", kind)


def used_budget(server: Served) -> float:
    return gauge(server, "graviton_memory_budget_bytes", "used")


def assert_nothing_left(server: Served) -> None:
    wait_for(lambda: in_flight(server, "upload") == 0 and in_flight(server, "download") == 0)
    wait_for(lambda: open_sessions(server) == 0)
    wait_for(lambda: used_budget(server) == 0)
    assert temporary_files(server.root) == []


def cut(connection: socket.socket) -> None:
    """End a connection as a cable does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("sent", [0, 1, 70_000, BIG - 1], ids=str)
@pytest.mark.parametrize("how", ["closed", "reset", "chunked"])
def test_an_upload_that_breaks_off_leaves_nothing(server: Served, sent: int, how: str) -> None:
    data = os.urandom(BIG)
    before = server.request("GET", "/api/stats").json["blobs"]
    length = "Transfer-Encoding: chunked" if how == "chunked" else f"Content-Length: {BIG}"
    connection = server.connect()
    connection.sendall(raw_head("POST", "/api/blobs", length))
    if how == "chunked":
        connection.sendall(b"%x\r\n" % BIG)
    connection.sendall(data[:sent])
    wait_for(lambda: in_flight(server, "upload") == 1)
    if sent > BIG // 2:
        wait_for(lambda: open_sessions(server) == 1)
        assert used_budget(server) > 0
    if how == "reset":
        cut(connection)
    else:
        connection.close()
    assert_nothing_left(server)
    assert server.request("GET", "/api/stats").json["blobs"] == before
    assert any(line["status"] == 499 and line["error"] == "client_gone" for line in server.lines)


def test_half_an_upload_by_http2_leaves_nothing(server: Served, tmp_path: Path) -> None:
    (tmp_path / "fifo").write_bytes(b"")
    os.remove(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo")
    before = server.request("GET", "/api/stats").json["blobs"]
    process = subprocess.Popen(
        [
            "curl",
            "-sS",
            "--http2-prior-knowledge",
            "-T",
            str(tmp_path / "fifo"),
            "-X",
            "POST",
            f"{server.url}/api/blobs",
        ],
        stdout=subprocess.PIPE,
    )
    with open(tmp_path / "fifo", "wb") as pipe:
        pipe.write(os.urandom(300_000))
        pipe.flush()
        wait_for(lambda: in_flight(server, "upload") == 1)
        process.kill()
        process.communicate()
    assert_nothing_left(server)
    assert server.request("GET", "/api/stats").json["blobs"] == before


def test_a_reader_that_leaves_ends_the_reading(server: Served) -> None:
    path = f"/api/blobs/{server.put(os.urandom(3 * BIG))}"
    connection = server.connect()
    connection.sendall(raw_head("GET", path))
    assert connection.recv(1000)
    wait_for(lambda: in_flight(server, "download") == 1)
    cut(connection)
    assert_nothing_left(server)
    line = [one for one in server.lines if one["path"] == path][-1]
    assert line["error"] == "client_gone"
    assert line["sent"] < 3 * BIG


def test_a_reader_that_leaves_by_http2_ends_the_reading(server: Served) -> None:
    """Its connection stays for others: it takes one stream back."""
    path = f"/api/blobs/{server.put(os.urandom(3 * BIG))}"
    process = subprocess.Popen(
        ["curl", "-sS", "--http2-prior-knowledge", "--limit-rate", "100k", "-o", "/dev/null", server.url + path]
    )
    wait_for(lambda: in_flight(server, "download") == 1)
    process.kill()
    process.wait()
    assert_nothing_left(server)
    assert [one for one in server.lines if one["path"] == path][-1]["error"] == "client_gone"


def test_many_leave_at_any_moment(server: Served) -> None:
    path = f"/api/blobs/{server.put(os.urandom(BIG))}"
    for step in range(24):
        connection = server.connect()
        request = raw_head("GET", path) if step % 2 else raw_head("POST", "/api/blobs", "Content-Length: 9999")
        connection.sendall(request[: 10 + step * 10])
        time.sleep(step % 5 * 0.003)
        cut(connection) if step % 3 else connection.close()
    assert_nothing_left(server)
    assert server.request("GET", "/api/health").status == 200


def test_a_body_that_is_refused_need_not_be_sent(server: Served) -> None:
    """`Expect: 100-continue`: the refusal comes first, and the body never."""
    head = raw_head("POST", "/api/blobs", f"Content-Length: {BIG}", "Expect: 100-continue", "X-Graviton-Hash: md5")
    with server.connect() as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    good = raw_head("POST", "/api/blobs", "Content-Length: 5", "Expect: 100-continue", "Connection: close")
    with server.connect() as connection:
        connection.sendall(good)
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert re.match(rb"HTTP/1.1 20[01]", read_all(connection))


def test_large_bodies_come_back_whole(server: Served, tmp_path: Path) -> None:
    data = os.urandom(BIG)
    (tmp_path / "big").write_bytes(data)
    for protocol in ("--http1.1", "--http2-prior-knowledge"):
        done = curl(protocol, "-T", str(tmp_path / "big"), "-X", "POST", f"{server.url}/api/blobs")
        blob = done.stdout.decode().strip('"')
        assert blob.endswith(f":{BIG}"), done
        back = curl(protocol, f"{server.url}/api/blobs/{blob}")
        assert hashlib.sha256(back.stdout).digest() == hashlib.sha256(data).digest()
