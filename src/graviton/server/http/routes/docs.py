"""`/api/openapi.json` and `/api/docs`: the interface, described by itself."""

from __future__ import annotations

from functools import cache

import msgspec
from litestar import Response, get

from graviton.server.http.openapi.document import document
from graviton.server.http.openapi.page import CONTENT_SECURITY_POLICY, page

__all__ = ["ROUTES"]


@get("/api/openapi.json")
async def openapi() -> Response[bytes]:
    """The document."""
    return Response(_json(), media_type="application/json")


@get("/api/docs")
async def docs() -> Response[bytes]:
    """The document as a page."""
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY}
    return Response(_page(), media_type="text/html", headers=headers)


@cache
def _json() -> bytes:
    return msgspec.json.encode(document())


@cache
def _page() -> bytes:
    return page(document()).encode()


ROUTES = [openapi, docs]
