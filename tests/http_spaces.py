"""A real server process with as many stores as a test run asks for: the first part of the path names the store.

`python -m tests.http_spaces FOLDER` prints its port. The store of `/<name>/api/…` lies in FOLDER/<name> and is made by
the first request, with small blocks, so that few bytes are many of them. Each law of a contract gets a store of its own
without a process of its own, and a server behind a path is tested on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["TOKEN", "Served", "SpacesProcess", "spaces"]

TOKEN = "a-token-of-32-characters-or-more"


class Spaces:
    """The ASGI application: finds or makes the store, and hands on."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._edges: dict[str, asyncio.Task[Any]] = {}
        self.stack = AsyncExitStack()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        name, _, rest = scope["path"].lstrip("/").partition("/")
        if name not in self._edges:
            self._edges[name] = asyncio.ensure_future(self._open(name))
        edge = await asyncio.shield(self._edges[name])
        scope |= {"path": f"/{rest}", "raw_path": scope["raw_path"].removeprefix(f"/{name}".encode())}
        await edge(scope, receive, send)

    async def _open(self, name: str) -> Any:
        from graviton.assembly.server_settings import ServerSettings
        from graviton.assembly.services import open_services
        from graviton.assembly.settings import Settings
        from graviton.core.chunking.spec import ChunkerSpec
        from graviton.core.secret import Secret
        from graviton.server.http.app import application
        from graviton.server.http.context import Context

        kernel = os.environ.get("GRAVITON_KERNEL", "auto")
        settings = Settings(fs_root=self._base / name, kernel=kernel, chunker=ChunkerSpec.parse("small"))
        services = await self.stack.enter_async_context(open_services(settings))
        server = ServerSettings(token=Secret(TOKEN))
        return application(Context(services, server), log=lambda line, error: None)


async def serve(base: Path, port: int, finish_seconds: float) -> None:
    """On `port`, or on one that is free, until SIGTERM."""
    import socket

    from graviton.server.http.routes import uploads

    uploads.FINISH_SECONDS = finish_seconds  # type: ignore[misc]

    from granian.constants import Interfaces
    from granian.server.embed import Server

    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", port))
    port = reserved.getsockname()[1]
    app = Spaces(base)
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    serving = asyncio.create_task(server.serve())
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        await asyncio.sleep(0.01)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await serving
    await app.stack.aclose()


class SpacesProcess:
    """The server as a process, which can be killed and come again at its port."""

    def __init__(self, base: Path, finish_seconds: float = 10.0) -> None:
        """The answer to the last bytes of an upload waits so long for the blob."""
        self._base, self._finish_seconds = base, finish_seconds
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """The beginning of its addresses."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begin to answer."""
        command = [
            sys.executable,
            "-m",
            "tests.http_spaces",
            str(self._base),
            str(self._port),
            str(self._finish_seconds),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """As if its power had failed."""
        self._process.kill()
        self._wait()

    def stop(self) -> None:
        """Let it end in good order."""
        self._process.terminate()
        try:
            self._wait()
        except subprocess.TimeoutExpired:
            self.kill()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        self._process.wait(10)
        self._process.stdout.close()


class Served(NamedTuple):
    """A server: the beginning of its addresses, and where its stores lie."""

    url: str
    base: Path

    def place(self) -> Served:
        """A store that nobody else uses, and its folder."""
        name = secrets.token_hex(6)
        return Served(f"{self.url}/{name}", self.base / name)

    @property
    def uploads(self) -> list[str]:
        """Of a place: uploads that have not gone, and files that they left."""
        request = urllib.request.Request(f"{self.url}/api/uploads", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request) as answer:
            found = [f"{one['upload']} {one['state']}" for one in json.load(answer)["uploads"]]
        return found + [str(path) for path in (self.base / "uploads").rglob("*") if path.is_file()]


@contextmanager
def spaces(base: Path, finish_seconds: float = 10.0) -> Iterator[Served]:
    """The server as a process."""
    process = SpacesProcess(base, finish_seconds)
    try:
        yield Served(process.url, base)
    finally:
        process.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
