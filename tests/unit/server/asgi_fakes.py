"""A server and a client without a network, for one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

__all__ = ["Wire", "body_messages", "scope"]

DISCONNECT = {"type": "http.disconnect"}


def scope(method: str = "GET", path: str = "/", **headers: str) -> dict[str, Any]:
    """A request; underscores in names of headers stand for hyphens."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "client": ("127.0.0.1", "5"),
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }


def body_messages(*pieces: bytes, whole: bool = True) -> list[dict[str, Any]]:
    """What comes of a body: `whole` or cut off after the last piece."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if whole:
        messages[-1]["more_body"] = False
    else:
        messages.append(dict(DISCONNECT))
    return messages


class Wire:
    """Both ends of a connection."""

    def __init__(self, incoming: Sequence[dict[str, Any]] = ()) -> None:
        self._incoming = list(incoming)
        self.gone = asyncio.Event()
        """Set it, and the client has left."""
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        """What the server below would give."""
        if self._incoming:
            return self._incoming.pop(0)
        await self.gone.wait()
        return dict(DISCONNECT)

    async def send(self, message: dict[str, Any]) -> None:
        """Take what the server below would send."""
        await asyncio.sleep(0)
        self.sent.append(message)

    @property
    def status(self) -> int:
        """Of the answer; 0 if there is none."""
        return self.sent[0]["status"] if self.sent else 0

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Of the answer."""
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        """All of it that was sent."""
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def is_complete(self) -> bool:
        """Whether the end of the answer was sent."""
        return len(self.sent) > 1 and not self.sent[-1].get("more_body", False)
