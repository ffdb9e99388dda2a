"""One follower of the events of a server, over a plain connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from tests.server.serving import Served

__all__ = ["Follower"]


class Follower:
    """One connection to the stream."""

    def __init__(self, server: Served, query: str = "", last: str | None = None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        headers = {} if last is None else {"Last-Event-ID": last}
        self._connection.request("GET", f"/api/events{query}", headers=headers)
        self.answer = self._connection.getresponse()

    def blocks(self) -> Iterator[dict[str, str]]:
        """Blocks of lines as they come."""
        fields: dict[str, str] = {}
        while line := self.answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "":
                yield fields
                fields = {}
            elif not name.startswith(":"):  # else a comment
                fields[name] = value

    def events(self, count: int) -> list[tuple[str, str, str]]:
        """Position, kind and subject of the next events."""
        found = []
        for block in self.blocks():
            if "event" in block:
                told: dict[str, Any] = json.loads(block["data"])
                assert told["kind"] == block["event"]
                found.append((block["id"], told["kind"], told["subject"]))
                if len(found) == count:
                    break
        return found

    def close(self) -> None:
        self.answer.close()
        self._connection.close()
