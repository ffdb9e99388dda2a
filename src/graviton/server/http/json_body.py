"""JSON that clients send: bounded, and checked against what it must look like."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from graviton.errors import InvalidInput
from graviton.server.http.asgi import Receive, Scope
from graviton.server.http.context import Context
from graviton.server.http.upload import RequestBody

__all__ = ["MAX_JSON_BYTES", "read_json"]

_T = TypeVar("_T")

MAX_JSON_BYTES: Final = 1024 * 1024
"""Ten thousand ids, the longest question there is, take 0.95 MB."""


async def read_json(scope: Scope, receive: Receive, kind: type[_T], context: Context) -> _T:
    """The body as a `kind`. Raises LimitExceeded, InvalidInput, ClientGone, TooSlow."""
    body = RequestBody(scope, receive, MAX_JSON_BYTES, context.services.clock)
    data = b"".join([piece async for piece in body])
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not the JSON that belongs here: {error}", subject="body") from error
