"""A server that takes multipart uploads of any size and keeps nothing: for what a put costs on our side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Sink", "sink_server"]

_READ_BYTES = 1 << 20


class Sink:
    """What was sent."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.sizes: dict[int, int] = {}
        """Of parts by number."""
        self.most = 0
        """Parts on their way at once."""
        self.now = 0
        self.lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(self.sizes.values())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self._drain()
        is_begin = "uploads" in urlsplit(self.path).query
        name = "InitiateMultipartUploadResult" if is_begin else "CompleteMultipartUploadResult"
        self._answer(f"<{name}><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId><ETag>e</ETag></{name}>".encode())

    def do_PUT(self) -> None:
        sink = self.server.sink
        query = dict(one.partition("=")[::2] for one in urlsplit(self.path).query.split("&"))
        with sink.lock:
            sink.now += 1
            sink.most = max(sink.most, sink.now)
        size = self._drain()
        with sink.lock:
            sink.now -= 1
            sink.sizes[int(query.get("partNumber", 0))] = size
        self._answer(b"", ETag='"e"')

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.sink.size))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Thu, 26 Nov 2026 05:07:09 GMT")
        self.end_headers()

    def _drain(self) -> int:
        size = left = int(self.headers.get("Content-Length", 0))
        while left:
            left -= len(self.rfile.read(min(left, _READ_BYTES)))
        return size

    def _answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sink: Sink


@contextmanager
def sink_server() -> Iterator[Sink]:
    """One that runs as long as the block does."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.sink = Sink(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
