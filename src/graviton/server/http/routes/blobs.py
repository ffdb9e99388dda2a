"""`/api/blobs`: whole blobs, in and out."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post, route
from litestar.params import Parameter
from litestar.types import ASGIApp

from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_PAGE_ENTRIES, MAX_SIZE
from graviton.errors import NotFound
from graviton.server.http.asgi import Scope, header
from graviton.server.http.context import Context
from graviton.server.http.digests import claimed_digest
from graviton.server.http.json_body import read_json
from graviton.server.http.listing import Filter, find
from graviton.server.http.models import (
    MAX_LISTED,
    BlobInfo,
    BlobPage,
    BlockPage,
    Presence,
    WantedIds,
    blob_info,
    block_info,
)
from graviton.server.http.plans import plan_of
from graviton.server.http.put_answers import BlobDone, put_headers
from graviton.server.http.serving import BlobAnswer, stat_of
from graviton.server.http.times import parse_time
from graviton.server.http.upload import RequestBody, checked, read_small
from graviton.stores.presence import present
from graviton.stores.put_many import MAX_SMALL_BYTES

__all__ = ["ROUTES"]


@post("/api/blobs")
async def put_blob(
    request: Request[Any, Any, Any], context: Context, domain: str = "", holder: str = ""
) -> Response[bytes]:
    """The body, of any size, becomes a blob; the answer is its id, as a JSON string."""
    scope: Scope = request.scope  # type: ignore[assignment]
    services, settings = context.services, context.settings
    plan = plan_of(scope, services.clock, domain, holder)
    claims = [
        claimed_digest(name, text)
        for name in ("content-digest", "repr-digest")
        if (text := header(scope, name.encode())) is not None
    ]
    body = RequestBody(scope, request.receive, settings.max_blob_bytes, services.clock)
    async with context.uploads:
        source = await read_small(body, MAX_SMALL_BYTES)
        for claimed in claims:
            source = checked(source, claimed)
        result = await services.store.put(source, plan)
    return Response(
        msgspec.json.encode(result.id),
        status_code=201 if result.created else 200,
        media_type="application/json",
        headers=put_headers(BlobDone.of(result)),
    )


@route("/api/blobs/{blob_id:str}", http_method=["GET", "HEAD"])
async def get_blob(context: Context, blob_id: str, domain: str = "") -> ASGIApp:
    """The bytes of a blob, or ranges of them, each verified before it leaves. HEAD: the same without bytes; nothing is
    read then."""
    return BlobAnswer(context, BlobKey.parse(blob_id), domain)  # type: ignore[return-value]


@get("/api/blobs/{blob_id:str}/stat")
async def stat_blob(context: Context, blob_id: str, domain: str = "") -> BlobInfo:
    """Size, time, blocks, chunker and attributes."""
    return blob_info(await stat_of(context, BlobKey.parse(blob_id), domain))


@get("/api/blobs")
async def list_blobs(
    context: Context,
    prefix: str = "",
    after: str | None = None,
    limit: Annotated[int, Parameter(ge=1, le=MAX_LISTED)] = 100,
    min_size: Annotated[int | None, Parameter(ge=0, le=MAX_SIZE)] = None,
    max_size: Annotated[int | None, Parameter(ge=0, le=MAX_SIZE)] = None,
    created_after: str | None = None,
    created_before: str | None = None,
    mime: str = "",
    name: str = "",
    domain: str = "",
) -> BlobPage:
    """Blobs in the order of their ids, some at a time."""
    wanted = Filter(
        min_size,
        max_size,
        None if created_after is None else parse_time("created_after", created_after),
        None if created_before is None else parse_time("created_before", created_before),
        mime,
        name,
    )
    start = None if after is None else BlobKey.parse(after)
    services = context.services
    found = await find(services.cas, prefix, start, limit, wanted, services.clock, domain)
    return BlobPage([blob_info(stat) for stat in found.stats], found.next, found.unreadable)


@post("/api/blobs/{blob_id:str}/undelete", status_code=200)
async def undelete_blob(context: Context, blob_id: str, domain: str = "", holder: str = "") -> Response[BlobInfo]:
    """Undo a delete, while that can be."""
    key = BlobKey.parse(blob_id)
    came_back = await context.services.store.undelete(key, holder, domain)
    found = await context.services.store.stat(key, domain)
    if found is None:
        raise NotFound(f"there is nothing left of blob {key} to bring back", operation="undelete", subject=key.text)
    return Response(blob_info(found), headers={"x-graviton-undeleted": "true" if came_back else "false"})


@get("/api/blobs/{blob_id:str}/manifest")
async def manifest_of_blob(
    context: Context,
    blob_id: str,
    after: Annotated[int, Parameter(ge=0, le=MAX_SIZE)] = 0,
    limit: Annotated[int, Parameter(ge=1, le=MAX_PAGE_ENTRIES)] = 1000,
    domain: str = "",
) -> BlockPage:
    """Blocks in order, from the one that holds the byte `after`, some at a time."""
    key = BlobKey.parse(blob_id)
    entries = await context.services.cas.entries(key, after, limit, domain)
    end = entries[-1].end if entries else key.size
    return BlockPage(key.text, [block_info(entry) for entry in entries], end if end < key.size else None)


@post("/api/blobs/exists", status_code=200)
async def blobs_exist(request: Request[Any, Any, Any], context: Context, domain: str = "") -> Presence:
    """Of many ids, those that are there."""
    scope: Scope = request.scope  # type: ignore[assignment]
    async with context.questions:
        asked = await read_json(scope, request.receive, WantedIds, context)
        keys = [BlobKey.parse(text) for text in asked.ids]
        found = await present(context.services.cas.manifests, keys, domain)
        return Presence([key.text for key, is_there in zip(keys, found, strict=True) if is_there])


@delete("/api/blobs/{blob_id:str}")
async def delete_blob(context: Context, blob_id: str, domain: str = "", holder: str = "") -> None:
    """Take the blob away, or from one of its holders. Blocks that other blobs have stay."""
    key = BlobKey.parse(blob_id)
    if not await context.services.store.delete(key, holder, domain):
        raise NotFound(f"there is no blob {key}", operation="delete", subject=key.text)


ROUTES = [
    put_blob,
    list_blobs,
    blobs_exist,
    get_blob,
    stat_blob,
    manifest_of_blob,
    delete_blob,
    undelete_blob,
]
