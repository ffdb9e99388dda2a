"""`/api/blobs`, described."""

from __future__ import annotations

from typing import Final

from graviton.core.limits import MAX_PAGE_ENTRIES, MAX_SIZE
from graviton.server.http.models import ID_PATTERN, MAX_LISTED, BlobInfo, BlobPage, BlockPage, Presence, WantedIds
from graviton.server.http.openapi.parts import (
    BLOB_ID,
    DOMAIN,
    EXAMPLE_ID,
    HOLDER,
    Json,
    answer,
    binary,
    head,
    json_answer,
    operation,
    query,
    reference,
)

__all__ = ["PATHS"]

_TAG: Final = "blobs"
_ID: Final[Json] = {"type": "string", "pattern": ID_PATTERN}
_SIZE: Final[Json] = {"type": "integer", "minimum": 0, "maximum": MAX_SIZE}
_TIME: Final[Json] = {"type": "string", "format": "date-time"}

_ATTRIBUTES: Final = "All attributes in their stored form, in base64; left out where they are very many."

_VALUE: Final[Json] = {"type": "string", "pattern": "^([!-$&-~]|%[0-7][1-9A-F]){0,200}$"}
_DIGEST: Final[Json] = {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"}

_BLOB_HEADERS: Final = {
    "ETag": "The id in quotes: a strong validator.",
    "Content-Disposition": "The name; `attachment` for types that browsers would run.",
    "Cache-Control": "`immutable`: what an id names never changes.",
    "Accept-Ranges": "bytes",
    "X-Graviton-Attributes": _ATTRIBUTES,
}

_CONDITIONS: Final = [
    head("If-Match", "Go on only if one of these entity tags is the blob's; else 412."),
    head("If-None-Match", "304 if one of these entity tags is the blob's."),
]

_PUT_HEADERS: Final = [
    head("X-Graviton-Expected-Id", "The id that must come out; else 422, and nothing is kept.", _ID),
    head("Content-Digest", "`sha-256=:BASE64:` (RFC 9530); other bytes are 422, and nothing is kept.", _DIGEST),
    head("Repr-Digest", "The same: bodies are stored as they come.", _DIGEST),
    head("Content-Disposition", "`attachment; filename=…`: the name that is kept."),
    head("X-Graviton-Hash", "In place of the store's own.", {"type": "string", "enum": ["blake3", "sha256"]}),
    head("X-Graviton-Chunker", "How it is cut, in place of the store's own: a spec or preset."),
    head(
        "X-Graviton-Attr-color",
        "An attribute, here `user.color`: any name after the prefix; percent-encoded UTF-8.",
        _VALUE,
    ),
    head(
        "X-Graviton-Attributes",
        "All attributes at once, with sources and times: their stored form (docs/formats/attributes.md) in base64."
        " Other headers about attributes are not looked at then.",
        {"type": "string", "contentEncoding": "base64", "examples": ["AQA="], "pattern": "^AQA=$"},
    ),
    DOMAIN,
    HOLDER,
]

_POST: Final = operation(
    "putBlob",
    _TAG,
    "Store a blob",
    "The body, of any size, becomes a blob. It is stored whole or not at all: a connection that breaks leaves nothing."
    " `Content-Type`, unless it is the `application/x-www-form-urlencoded` that curl sends by default, the name and the"
    " attributes are kept as what the client said.",
    {
        code: answer(
            text,
            content={"application/json": {"schema": _ID, "example": EXAMPLE_ID}},
            headers={
                "Location": "Where the blob is.",
                "ETag": "The id in quotes.",
                "X-Graviton-Blob-Id": "The id.",
                "X-Graviton-Chunker": "How the blob is cut.",
                "X-Graviton-Put": "`blocks`, and what this put did: `cut-blocks`, `fresh-blocks`, `fresh-bytes`,"
                " `repaired-blocks`, `created`.",
                "X-Graviton-Attributes": _ATTRIBUTES,
            },
        )
        for code, text in ((201, "The blob is new."), (200, "The blob was there already."))
    },
    parameters=_PUT_HEADERS,
    body={"required": True, "description": "The bytes.", "content": binary("application/octet-stream", "*/*")},
    fails=(408, 409, 413, 422, 501, 507),
    curl="curl --data-binary @FILE -H 'Content-Disposition: attachment; filename=\"FILE\"' $URL/api/blobs",
)

_LIST: Final = operation(
    "listBlobs",
    _TAG,
    "List blobs",
    "In the order of their ids, a page at a time: go on with `after` set to `next` until that is null. A page may have"
    " fewer blobs than asked for, or none, and still a `next`: a filter looks through a bounded number for one page.",
    {200: json_answer("A page.", BlobPage)},
    parameters=[
        query("prefix", {"type": "string", "examples": ["blake3:ea8f"]}, "What the ids begin with."),
        query("after", _ID, "Only ids after this one."),
        query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": 100}, "Blobs on a page."),
        query("min_size", _SIZE, "Bytes, at least."),
        query("max_size", _SIZE, "Bytes, at most."),
        query("created_after", _TIME, "Stored later than that."),
        query("created_before", _TIME, "Stored earlier than that."),
        query("mime", {"type": "string", "examples": ["image/*"]}, "A type, or all of a kind."),
        query("name", {"type": "string"}, "Text that is in the name; capitals do not matter."),
        DOMAIN,
    ],
    curl="curl '$URL/api/blobs?mime=image/*&limit=10'",
)

_EXISTS: Final = operation(
    "blobsExist",
    _TAG,
    "Which blobs are there",
    "Of many ids, those that are there.",
    {200: json_answer("Those that are there, in the order asked.", Presence, {"present": [EXAMPLE_ID]})},
    body={
        "required": True,
        "content": {"application/json": {"schema": reference(WantedIds), "example": {"ids": [EXAMPLE_ID]}}},
    },
    parameters=[DOMAIN],
    fails=(408, 413),
    curl=f'curl -d \'{{"ids": ["{EXAMPLE_ID}"]}}\' $URL/api/blobs/exists',
)

_GET: Final = operation(
    "getBlob",
    _TAG,
    "Read a blob",
    "Every byte is verified before it leaves. If damage is found after the answer began, the connection ends without"
    " the end of the body: a client that compares the length, as all do, never takes half for whole."
    " Several ranges come as `multipart/byteranges`; ranges that overlap are sent once.",
    {
        200: answer("The bytes.", content=binary("*/*"), headers=_BLOB_HEADERS),
        206: answer(
            "The ranges asked for.",
            content=binary("*/*", "multipart/byteranges"),
            headers={**_BLOB_HEADERS, "Content-Range": "Which bytes, of how many."},
        ),
        304: answer("The client has it.", headers={"ETag": "The id in quotes."}),
    },
    parameters=[
        *_CONDITIONS,
        head("Range", "`bytes=0-99`, `bytes=100-`, `bytes=-100`, or up to 16 of these; more are ignored."),
        head("If-Range", "Obey Range only if this entity tag is the blob's; else send all."),
        DOMAIN,
    ],
    fails=(404, 412, 416),
    curl=f"curl -o FILE $URL/api/blobs/{EXAMPLE_ID}",
)

_HEAD: Final = operation(
    "headBlob",
    _TAG,
    "Headers of a blob",
    "As GET, without the bytes; nothing is read.",
    {
        200: answer("What GET would say.", headers=_BLOB_HEADERS),
        304: answer("The client has it.", headers={"ETag": "The id in quotes."}),
    },
    parameters=[*_CONDITIONS, DOMAIN],
    fails=(404, 412),
    curl=f"curl -I $URL/api/blobs/{EXAMPLE_ID}",
)

_DELETE: Final = operation(
    "deleteBlob",
    _TAG,
    "Remove a blob",
    "It is gone at once, and can be brought back while its blocks are kept. Blocks that other blobs have stay.",
    {204: answer("It is gone, or that holder keeps it no longer.")},
    parameters=[DOMAIN, HOLDER],
    fails=(404, 409),
    curl=f"curl -X DELETE $URL/api/blobs/{EXAMPLE_ID}",
)

_UNDELETE: Final = operation(
    "undeleteBlob",
    _TAG,
    "Bring a blob back",
    "Undo a delete, while that can be.",
    {200: json_answer("It is there again, or still.", BlobInfo)},
    parameters=[DOMAIN, HOLDER],
    fails=(404, 409),
    curl=f"curl -X POST $URL/api/blobs/{EXAMPLE_ID}/undelete",
)

_STAT: Final = operation(
    "statBlob",
    _TAG,
    "What is known about a blob",
    "Size, time, blocks, chunker and attributes: what clients said of it (`advertised`), and what the store has seen"
    " (`confirmed`).",
    {200: json_answer("What is known.", BlobInfo)},
    parameters=[DOMAIN],
    fails=(404,),
    curl=f"curl $URL/api/blobs/{EXAMPLE_ID}/stat",
)

_MANIFEST: Final = operation(
    "blobManifest",
    _TAG,
    "Blocks of a blob",
    "In order, some at a time: go on with `after` set to `next` until that is null.",
    {
        200: json_answer(
            "Some blocks.",
            BlockPage,
            {"id": EXAMPLE_ID, "blocks": [{"key": EXAMPLE_ID, "offset": 0, "size": 5}], "next": None},
        )
    },
    parameters=[
        query("after", {**_SIZE, "default": 0}, "Begin with the block that holds this byte."),
        query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_ENTRIES, "default": 1000}, "Blocks."),
        DOMAIN,
    ],
    fails=(404, 416),
    curl=f"curl '$URL/api/blobs/{EXAMPLE_ID}/manifest?limit=10'",
)


def _with_id(**methods: Json) -> Json:
    return {"parameters": [BLOB_ID], **methods}


PATHS: Final[Json] = {
    "/api/blobs": {"post": _POST, "get": _LIST},
    "/api/blobs/exists": {"post": _EXISTS},
    "/api/blobs/{blob_id}": _with_id(get=_GET, head=_HEAD, delete=_DELETE),
    "/api/blobs/{blob_id}/stat": _with_id(get=_STAT),
    "/api/blobs/{blob_id}/manifest": _with_id(get=_MANIFEST),
    "/api/blobs/{blob_id}/undelete": _with_id(post=_UNDELETE),
}
