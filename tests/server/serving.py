"""Running `graviton serve` as people do, and talking to it over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.cli_process import COMMAND, children_env

__all__ = ["Answer", "Served", "block_of", "raw_head"]

START_SECONDS = 60
"""A loaded machine takes its time to import everything."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    """Names in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Served:
    """One server on a store of its own; use as `with`. What it logs is in `log`."""

    def __init__(self, root: Path, *options: str, **environment: str) -> None:
        self.root = root
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        self.process = subprocess.Popen(
            [*COMMAND, "--root", str(root), "serve", "--port", "0", "--json", *options],
            env=children_env() | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.told: dict[str, Any] = json.loads(line) if line else {}
        """What it printed when it was ready, or the error that it ended with."""
        self.port: int = self.told.get("port", 0)

    @property
    def url(self) -> str:
        """Its address."""
        url: str = self.told["listening"]
        return url

    @property
    def log(self) -> str:
        """Standard error so far. Read without moving the place where the server writes."""
        fd = self._log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode()

    def line(self, **fields: Any) -> dict[str, Any]:
        """The last line of the log with these fields. It is written after the answer."""
        deadline = time.monotonic() + 30
        while True:
            *whole, _ = self.log.split("\n")  # the last one may be on its way
            lines = [json.loads(line) for line in whole if line.startswith("{")]
            found = [line for line in lines if line.items() >= fields.items()]
            if found:
                return found[-1]
            assert time.monotonic() < deadline, (fields, self.log)
            time.sleep(0.02)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 30
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {}, encode_chunked=not isinstance(body, bytes | None))
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def put(self, data: bytes, **headers: str) -> str:
        """Store a blob; its id."""
        answer = self.request(
            "POST", "/api/blobs", data, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert answer.status in (200, 201), answer
        blob: str = answer.json
        return blob

    def connect(self) -> socket.socket:
        """A plain connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def talk(self, sent: bytes) -> bytes:
        """Send bytes as they are, or as many as it takes; all that comes until the server closes the connection."""
        with self.connect() as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
            return read_all(connection)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(START_SECONDS)

    def __enter__(self) -> Served:
        assert "listening" in self.told, (self.told, self.log)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        log = self.log
        self._log.close()
        assert "Traceback" not in log, log  # also one within a line


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes, also abnormally."""
    found = bytearray()
    try:
        while piece := connection.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return bytes(found)


def raw_head(method: str, path: str, *headers: str) -> bytes:
    """The head of a request, as bytes."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1")


def block_of(root: Path, key: str) -> Path:
    """The file of a block."""
    algo, digest, size = key.split(":")
    return root / "cas" / "blocks" / algo / f"{digest}-{size}"


def damage(path: Path) -> None:
    """Flip one bit."""
    os.chmod(path, 0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def curl(*args: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run curl."""
    return subprocess.run(["curl", "-sS", *args], input=data, capture_output=True, timeout=60, check=False)


assert sys.platform == "linux", "ports are shared as Linux does it"
