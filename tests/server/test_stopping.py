"""Starting, stopping, dying: exit codes, what becomes of requests, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import certificate
from tests.integration.cli_process import listed, temporary_files, wait_for
from tests.integration.command_runs import graviton
from tests.server.serving import Answer, Served, curl, raw_head, read_all

TOKEN = "a-token-of-this-test"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def failure(run: Any) -> dict[str, Any]:
    """What a command that failed says."""
    assert run.code != 0
    told: dict[str, Any] = json.loads(run.out.splitlines()[-1])
    return told


def test_it_says_where_it_is_and_makes_the_store(root: Path) -> None:
    with Served(root) as server:
        assert server.told["listening"] == f"http://127.0.0.1:{server.port}"
        assert server.told["blocks"] == str(root)
        assert server.told["metadata"] == str(root / "meta.sqlite")
        assert server.told["kernel"] in ("native", "python")
        assert (server.told["workers"], server.told["token"]) == (1, False)
        assert (root / "graviton-store.json").exists()
        blob = server.put(b"by the server")
        assert graviton(root, "cat", blob).out == "by the server"
        assert server.stop() == 0
    assert listed(root) == [blob]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_every_signal_to_stop_stops_it(root: Path, signum: int) -> None:
    with Served(root) as server:
        idle = server.connect()
        idle.sendall(raw_head("GET", "/api/health"))
        assert idle.recv(10)
        assert server.stop(signum) == 0
        idle.close()


def slow_put(server: Served, length: int = 100_000) -> socket.socket:
    """An upload that waits for its last byte."""
    connection = server.connect()
    connection.sendall(raw_head("POST", "/api/blobs", f"Content-Length: {length}", "Connection: close"))
    connection.sendall(bytes(length - 1))
    wait_for(lambda: b'in_flight{kind="upload"} 1.0' in server.request("GET", "/metrics").body)
    return connection


def test_a_put_under_way_is_finished_and_nothing_new_is_accepted(root: Path) -> None:
    with Served(root) as server:
        connection = slow_put(server)
        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                with server.connect() as other:
                    other.sendall(raw_head("GET", "/api/health", "Connection: close"))
                    return read_all(other) == b""
            except OSError:
                return True

        wait_for(refused)
        assert server.process.poll() is None
        connection.sendall(b"\0")
        assert read_all(connection).startswith(b"HTTP/1.1 201")
        assert server.process.wait(30) == 0
        connection.close()
    assert len(listed(root)) == 1


@pytest.mark.parametrize("how", ["second signal", "grace"])
def test_a_put_that_does_not_end_is_undone(root: Path, how: str) -> None:
    with Served(root, "--grace", "60" if how == "second signal" else "1") as server:
        connection = slow_put(server)
        server.process.send_signal(signal.SIGTERM)
        if how == "second signal":
            time.sleep(1)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == (130 if how == "second signal" else 0)
        assert b" 201 " not in read_all(connection)[:20]
        connection.close()
    assert listed(root) == []
    assert temporary_files(root) == []


def test_a_download_that_does_not_end_is_cut(root: Path) -> None:
    with Served(root, "--grace", "1") as server:
        path = f"/api/blobs/{server.put(os.urandom(30_000_000))}"
        connection = server.connect()
        connection.sendall(raw_head("GET", path))
        assert connection.recv(1000)
        assert server.stop() == 0
        assert len(read_all(connection)) < 30_000_000
        connection.close()


def test_killed_it_leaves_a_store_that_goes_on(root: Path) -> None:
    with Served(root) as server:
        kept = server.put(b"kept")
        connection = slow_put(server, 3_000_000)
        server.process.kill()
        server.process.wait()
        connection.close()
    with Served(root) as server:
        assert server.request("GET", f"/api/blobs/{kept}").body == b"kept"
        assert len(server.request("GET", "/api/blobs").json["blobs"]) == 1
        assert server.stop() == 0
    assert graviton(root, "verify", "--all").code == 0


def test_a_port_that_somebody_has_is_refused(root: Path, tmp_path: Path) -> None:
    with Served(root) as server:
        told = failure(graviton(tmp_path / "other", "serve", "--json", "--port", str(server.port)))
        assert (told["error"], "somebody else listens" in told["message"]) == ("unavailable", True)
        assert told["hint"]
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "environment", "subject"),
    [
        (["--host", "0.0.0.0"], {}, "GRAVITON_API_TOKEN"),
        (["--tls-cert", "x.pem"], {}, "GRAVITON_HTTP_TLS_KEY"),
        ([], {"GRAVITON_HTTP_PORT": "70000"}, "GRAVITON_HTTP_PORT"),
        ([], {"GRAVITON_API_TOKEN": "short"}, "GRAVITON_API_TOKEN"),
        (["--workers", "2"], {"GRAVITON_METADATA": "memory"}, "GRAVITON_HTTP_WORKERS"),
        (["--workers", "2"], {"GRAVITON_METADATA": "rocksdb"}, "GRAVITON_HTTP_WORKERS"),
        (["--workers", "2"], {"GRAVITON_BLOB_BACKEND": "memory"}, "GRAVITON_HTTP_WORKERS"),
    ],
)
def test_what_does_not_fit_is_refused(
    root: Path, options: list[str], environment: dict[str, str], subject: str
) -> None:
    run = graviton(root, "serve", "--json", "--port", "0", *options, **environment)
    told = failure(run)
    assert (run.code, told["error"], told["subject"]) == (1, "config", subject)
    assert told["hint"]
    assert "short" not in run.out + run.err


@pytest.mark.parametrize("words", [["--port", "x"], ["--workers", "0"], ["--grace", "-1"], ["--host", "nowhere"]])
def test_wrong_usage_is_told_as_by_every_command(root: Path, words: list[str]) -> None:
    run = graviton(root, "serve", *words)
    assert (run.code, run.out) == (2, "")
    assert words[0] in run.err


def test_without_the_extra_it_says_how_to_install_it(root: Path, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'granian' else real(name, *more)\n"
    )
    path = os.pathsep.join([str(tmp_path / "hidden"), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = failure(graviton(root, "serve", "--json", PYTHONPATH=path))
    assert (told["error"], told["subject"]) == ("config", "granian")
    assert "pip install 'graviton[server]'" in told["hint"]


def test_the_token_is_asked_for_and_never_shown(root: Path) -> None:
    with Served(root, "--host", "0.0.0.0", GRAVITON_API_TOKEN=TOKEN) as server:
        assert server.told["token"] is True
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert server.request("GET", "/api/stats", headers=bearer | {"Host": "files.example"}).status == 200
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = server.request("GET", "/api/stats", headers=headers)
            assert (answer.status, answer.json["error"]) == (401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert server.request("POST", "/api/blobs", b"x").status == 401
        assert server.request("GET", "/api/health").status == 200
        assert server.request("GET", "/api/health/ready").status == 200
        blob = server.put(b"private", Authorization=f"Bearer {TOKEN}")
        got = server.request("GET", f"/api/blobs/{blob}", headers=bearer)
        assert got.headers["cache-control"].startswith("private,")
        told = json.dumps(server.told)
        assert server.stop() == 0
        assert TOKEN not in server.log + told


def test_tls_and_http2(root: Path, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with Served(root, "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert server.url.startswith("https://")
        for protocol, version in (("--http1.1", "1.1"), ("--http2", "2")):
            done = curl(protocol, "--cacert", str(cert), "-w", "%{http_version}", f"{server.url}/api/health")
            assert done.returncode == 0, done
            assert done.stdout.decode().endswith(version)
        data = os.urandom(1_000_000)
        blob = curl("--cacert", str(cert), "--data-binary", "@-", f"{server.url}/api/blobs", data=data).stdout
        got = curl("--cacert", str(cert), f"{server.url}/api/blobs/{blob.decode().strip(chr(34))}")
        assert got.stdout == data
        with server.connect() as plain:  # not TLS at all
            plain.sendall(raw_head("GET", "/api/health"))
            read_all(plain)
        assert server.stop() == 0


def test_files_of_tls_are_looked_at_first(root: Path, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_key = certificate(tmp_path / "other")
    old_key = tmp_path / "old.key"
    old_key.write_text(key.read_text().replace("PRIVATE KEY", "EC PRIVATE KEY"))
    odd = tmp_path / "odd"  # the server below aborts at it
    odd.mkdir()
    locked = tmp_path / "locked.key"  # nobody is asked for the password
    locked.write_text(encrypted(key) + key.read_text())
    for files, words in (
        (certificate(odd, ec.SECP521R1()), "of a kind that is not taken"),
        ((cert, locked), "is not the key of"),
        ((key, key), "holds no certificate"),
        ((cert, cert), "holds no key"),
        ((cert, other_key), "is not the key of"),
        ((cert, old_key), "PKCS#8"),
        ((cert, tmp_path / "missing"), "cannot be read"),
    ):
        told = failure(graviton(root, "serve", "--json", "--port", "0", "--tls-cert", files[0], "--tls-key", files[1]))
        assert (told["error"], words in told["message"]) == ("config", True), told
        assert told["hint"]


def encrypted(key: Path) -> str:
    """The key with a password."""
    found = serialization.load_pem_private_key(key.read_bytes(), None)
    hidden = serialization.BestAvailableEncryption(b"secret")
    return found.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden).decode()


def workers_of(server: Served) -> set[int]:
    """Process ids of the workers."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(server.process.pid)], capture_output=True, text=True, check=False
    )
    return {int(pid) for pid in found.stdout.split()}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_workers_share_a_port_and_one_that_dies_comes_back(root: Path) -> None:
    with Served(root, "--workers", "2") as server:
        assert server.told["workers"] == 2
        first = workers_of(server)
        assert len(first) == 2
        blob = server.put(b"by one of two")
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.request("GET", f"/api/blobs/{blob}")))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.body for answer in answers} == {b"by one of two"}
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(workers_of(server) - {victim}) == 2, 60)
        wait_for(lambda: server.request("GET", "/api/health").status == 200)
        assert "is started again" in server.log
        last = workers_of(server)
        assert server.stop() == 0
        assert not any(alive(pid) for pid in last)


def test_workers_go_when_their_parent_is_killed(root: Path) -> None:
    with Served(root, "--workers", "2") as server:
        workers = workers_of(server)
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not any(alive(pid) for pid in workers), 60)


def test_a_worker_finishes_its_put_too(root: Path) -> None:
    with Served(root, "--workers", "2") as server:
        connection = slow_put(server, 300_000)  # which asks until the worker that has it answers
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.sendall(b"\0")
        assert read_all(connection).startswith(b"HTTP/1.1 201")
        connection.close()
        assert server.process.wait(60) == 0


def test_a_store_that_cannot_be_opened_stops_the_start(root: Path) -> None:
    root.mkdir()
    (root / "meta.sqlite").write_bytes(b"no database" * 1000)
    for options in ([], ["--workers", "2"]):
        told = failure(graviton(root, "serve", "--json", "--port", "0", *options))
        assert told["hint"] or told["message"]


@pytest.mark.parametrize("host", ["::1", "127.0.0.2"])
def test_other_addresses_of_this_machine(root: Path, host: str) -> None:
    with Served(root, "--host", host) as server:
        done = curl(f"{server.url}/api/health")
        assert json.loads(done.stdout)["status"] == "ok"
