"""Real S3 servers for tests, each started when the first test needs it and stopped with the process.

`rclone serve s3` keeps buckets as folders: streams, and knows neither conditions nor encryption. moto keeps them in
memory and knows conditions, checksums, encryption and copies by parts. GRAVITON_TEST_S3_URL names another one to be
tested instead of rclone: `http://ACCESS:SECRET@HOST:PORT`; the tests make buckets there and remove what they put.
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import Credentials, S3Config
from graviton.core.secret import Secret

__all__ = ["S3Server", "default_server", "moto_server", "rclone_server", "rclone_server_on"]

ACCESS_KEY, SECRET_KEY = "graviton-test", "a-secret-of-the-tests"

_GUARD = '"$@" & child=$!; cat >/dev/null; kill $child; wait $child'
"""Runs a server until this process ends, also by kill -9: it reads a pipe whose other end nobody else has."""

_START_SECONDS = 30

_MOTO = """
import logging, sys
from moto import backends, server

modules = list(backends.list_of_moto_modules())
backends.list_of_moto_modules = lambda: modules
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server.main(sys.argv[1:])
"""
"""`moto_server`, which spends half of its time on looking for its modules in the file system, at each request, and on
telling of it: this one does neither."""

_MOTO_IN_MEMORY = 5 * 1024 * 1024
"""Bytes of an object that it keeps in memory, not in a file; about what it does by itself."""


class S3Server(NamedTuple):
    """A server that is running."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    takes_tokens: bool = True
    """Whether a session token may come with the keys, as it does to servers that know of none."""

    def config(self, bucket: str, **settings: object) -> S3Config:
        """Settings of a bucket there."""
        credentials = Credentials(self.access_key, Secret(self.secret_key))
        defaults = {"endpoint": self.endpoint, "credentials": credentials}
        return S3Config(bucket, **(defaults | settings))  # type: ignore[arg-type]

    def new_bucket(self, name: str = "") -> str:
        """Make a bucket of its own for a test; its name."""
        name = name or f"test-{secrets.token_hex(6)}"
        s3_client(self.config(name), 1).create_bucket(Bucket=name)
        return name


@functools.cache
def rclone_server() -> S3Server:
    """`rclone serve s3` on a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="graviton-s3-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _rclone(folder)[0]


@contextmanager
def rclone_server_on(folder: Path, tls: tuple[Path, Path] | None = None) -> Iterator[S3Server]:
    """One of its own on `folder`, which is made; with `tls`, a certificate and its key, it talks nothing else."""
    folder.mkdir(parents=True)
    server, guard = _rclone(folder, tls)
    try:
        yield server
    finally:
        _stop(guard)


def _rclone(folder: Path, tls: tuple[Path, Path] | None = None) -> tuple[S3Server, subprocess.Popen[bytes]]:
    port = _free_port()
    program = Path(sys.executable).with_name("rclone")
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    command = [program, "serve", "s3", "--config", "", "--auth-key", keys, "--addr", f"127.0.0.1:{port}", folder]
    if tls is not None:
        command += ["--cert", tls[0], "--key", tls[1]]
    return S3Server(f"http{'' if tls is None else 's'}://127.0.0.1:{port}"), _start(command, port)


@functools.cache
def moto_server() -> S3Server:
    """moto's server, which asks for no keys and takes parts of any size."""
    port = _free_port()
    settings = ["S3_UPLOAD_PART_MIN_SIZE=1", f"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE={_MOTO_IN_MEMORY}"]
    _start(["env", *settings, sys.executable, "-c", _MOTO, "-H", "127.0.0.1", "-p", str(port)], port)
    return S3Server(f"http://127.0.0.1:{port}")


def default_server() -> S3Server:
    """The server of GRAVITON_TEST_S3_URL, or rclone's."""
    url = os.environ.get("GRAVITON_TEST_S3_URL", "")
    if not url:
        return rclone_server()
    parts = urlsplit(url)
    assert parts.hostname, "GRAVITON_TEST_S3_URL is http://ACCESS:SECRET@HOST:PORT"
    place = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    return S3Server(f"{parts.scheme}://{place}", parts.username or "", parts.password or "", takes_tokens=False)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _start(command: list[object], port: int) -> subprocess.Popen[bytes]:
    """The guard of the server, which answers."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the server runs
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", *map(str, command)], stdin=subprocess.PIPE, stdout=log, stderr=log
    )
    atexit.register(_stop, guard)
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and guard.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            log.close()
            return guard
    log.seek(0)
    raise RuntimeError(f"{command[0]} does not answer: {log.read().decode(errors='replace')[-2000:]}")


def _stop(guard: subprocess.Popen[bytes]) -> None:
    assert guard.stdin is not None
    guard.stdin.close()  # again at the end of the process: harmless
    guard.wait(10)
