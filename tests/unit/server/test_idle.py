from __future__ import annotations

import asyncio
import errno
import socket
import sys

import pytest

from graviton.errors import Unavailable
from graviton.server import idle
from graviton.server.idle import close_idle, connections_at_once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is known elsewhere")


class Pair:
    """Both ends of a connection in this process."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            self.client = socket.create_connection(("127.0.0.1", self.port))
            self.server, _ = listening.accept()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


def test_who_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pair() as pair:
        assert close_idle(pair.port) == 0
        monkeypatch.setattr(idle, "SILENT_MS", 0)
        assert close_idle(pair.port) == 1
        assert pair.client.recv(1) == b""
        assert close_idle(pair.port) == 0, "it is not established any more"


def test_who_has_said_something_may_be_silent_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pair() as pair:
        pair.client.sendall(b"GET")
        assert pair.server.recv(3) == b"GET"
        monkeypatch.setattr(idle, "SILENT_MS", 0)
        assert close_idle(pair.port) == 0
        monkeypatch.setattr(idle, "IDLE_MS", 0)
        assert close_idle(pair.port) == 1


def test_who_waits_for_us_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SILENT_MS", 0)
    with Pair() as pair:
        host, port = pair.client.getsockname()
        assert close_idle(pair.port, {(host, str(port))}) == 0
        assert close_idle(pair.port, {(host, "1")}) == 1


def test_other_ports_and_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SILENT_MS", 0)
    monkeypatch.setattr(idle, "IDLE_MS", 0)
    one, other = socket.socketpair()
    with Pair() as pair, one, other, socket.create_server(("127.0.0.1", 0)) as listening:
        assert close_idle(listening.getsockname()[1]) == 0
        pair.client.sendall(b"x")
        assert pair.server.recv(1) == b"x"


def test_connections_leave_files_for_the_store() -> None:
    assert 16 <= connections_at_once() <= 4096


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many open files"), Unavailable("no thread")])
async def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It fails while all files are in use, which is when the silent must go."""
    monkeypatch.setattr(idle, "LOOK_SECONDS", 0)
    looks = 0
    again = asyncio.Event()

    async def failing(*_: object) -> int:
        nonlocal looks
        looks += 1
        if looks > 2:
            again.set()
        raise error

    monkeypatch.setattr(idle, "in_own_thread", failing)
    looking = asyncio.create_task(idle.keep_closing(1, list))
    async with asyncio.timeout(30):
        await again.wait()
    looking.cancel()
