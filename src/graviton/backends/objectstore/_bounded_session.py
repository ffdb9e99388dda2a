"""`BoundedSession`: what sends botocore's requests, and reads no answer further than one can be long.

Errors, listings and whatever else botocore takes apart is read whole by it, whatever a server sends. Objects are not:
they are read piece by piece by who asked for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from graviton.errors import Unavailable

__all__ = ["MAX_ANSWER_BYTES", "BoundedSession"]

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""A page of a listing has 1000 names of at most 1 KiB, six times as long if all of it is escaped, and about 300 bytes
beside each."""


class BoundedSession:
    """In place of the driver's own, to which it passes everything on."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """The answer, of which nothing but its head was read."""
        request.stream_output = True  # else it is read whole here
        answer = self._session.send(request)
        answer.raw = _BoundedBody(answer.raw)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class _BoundedBody:
    """A body. Only what is to be read whole is asked of `stream`."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def stream(self, *args: Any, **more: Any) -> Iterator[bytes]:
        count = 0
        for piece in self._body.stream(*args, **more):
            count += len(piece)
            if count > MAX_ANSWER_BYTES:
                self._body.close()
                raise Unavailable(f"an answer of more than {MAX_ANSWER_BYTES:,} bytes came", operation="objectstore")
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)
