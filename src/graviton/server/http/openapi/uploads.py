"""`/api/uploads`, described."""

from __future__ import annotations

from typing import Final

from graviton.core.limits import MAX_SIZE
from graviton.server.http import tus
from graviton.server.http.models import ID_PATTERN
from graviton.server.http.openapi.parts import (
    DOMAIN,
    HOLDER,
    Json,
    answer,
    binary,
    head,
    json_answer,
    operation,
    query,
)
from graviton.server.http.upload_answers import FINISH_SECONDS, MAX_LISTED, MissingRanges, UploadInfo, UploadPage

__all__ = ["PATHS"]

_TAG: Final = "uploads"
_EXAMPLE: Final = "ce6d243cc418e652d7bb7487959f9049"
_ID: Final[Json] = {"type": "string", "pattern": "^[0-9a-f]{32}$", "examples": [_EXAMPLE]}
_SIZE: Final[Json] = {"type": "integer", "minimum": 0, "maximum": MAX_SIZE}
_UPLOAD_ID: Final[Json] = {
    "name": "upload_id",
    "in": "path",
    "required": True,
    "description": "The id of an upload, the last part of its address.",
    "schema": _ID,
}
_GAP: Final[Json] = {"offset": 3, "size": 2}
_TUS: Final = head(
    "Tus-Resumable",
    "The version of tus; without it a request is a plain one.",
    {"const": tus.VERSION, "type": "string"},
)
_OFFSET_BODY: Final = binary(tus.OFFSET_TYPE)

_HEADERS: Final = {
    "Upload-Offset": "Bytes there without a gap from the beginning: where to go on.",
    "Upload-Length": "Bytes in all, once they are known.",
    "Upload-Expires": "When an unfinished upload goes, unless its client gives a sign of life before.",
    "X-Graviton-Upload-State": "receiving, finishing, done or failed.",
    "X-Graviton-Blob-Id": "The blob, once there is one; then also what a put of it answers.",
    "Tus-Resumable": "The version of tus.",
}
_LOCATION: Final = {"Location": "The address of the upload, and of its state."}
_CHECKSUM: Final = head(
    "Upload-Checksum",
    f"An algorithm ({', '.join(tus.ALGORITHMS)}), a blank and a digest of the body in base64; else 460.",
)

_OPTIONS: Final = operation(
    "describeUploads",
    _TAG,
    "What uploads can do",
    "The version and the extensions of tus, and the largest upload.",
    {
        204: answer(
            "Headers of tus.",
            headers={
                "Tus-Version": "1.0.0",
                "Tus-Extension": ",".join(tus.EXTENSIONS),
                "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
                "Tus-Max-Size": "Bytes.",
            },
        )
    },
    fails=(501,),
    curl="curl -i -X OPTIONS $URL/api/uploads",
)

_POST: Final = operation(
    "createUpload",
    _TAG,
    "Begin an upload",
    "Its address comes in `Location`. The body, if there is one, are the first bytes. `X-Graviton-Attr-*`,"
    " `X-Graviton-Hash`, `X-Graviton-Chunker`, `X-Graviton-Expected-Id` and `Repr-Digest` mean the whole, as for a"
    " blob that is stored at once; `filename` and `filetype` of Upload-Metadata become its name and type.",
    {201: json_answer("The upload.", UploadInfo, headers={**_LOCATION, **_HEADERS})},
    parameters=[
        DOMAIN,
        HOLDER,
        _TUS,
        head("Upload-Length", "Bytes in all; needed, unless one of the next two stands for it.", _SIZE),
        head(
            "Upload-Defer-Length",
            "1: the length is said later, by a PATCH or a part.",
            {"const": "1", "type": "string"},
        ),
        head("Upload-Metadata", "Names and base64 values; handed back as they came."),
        head("Upload-Concat", "`partial`, or `final;` and the addresses of complete partial uploads, in their order."),
        head("X-Graviton-Expected-Id", "The id that must come out.", {"type": "string", "pattern": ID_PATTERN}),
        head("Repr-Digest", "`sha-256=:BASE64:` of the whole."),
        _CHECKSUM,
        DOMAIN,
        HOLDER,
    ],
    body={"required": False, "description": "The first bytes.", "content": _OFFSET_BODY},
    fails=(404, 408, 409, 412, 413, 415, 422, 460, 501, 507),
    curl="curl -i -X POST -H 'Upload-Length: 5' $URL/api/uploads",
)

_LIST: Final = operation(
    "listUploads",
    _TAG,
    "List uploads",
    "In the order of their ids, a page at a time: go on with `after` set to `next` until that is null.",
    {200: json_answer("A page.", UploadPage)},
    parameters=[
        query("after", _ID, "Only ids after this one."),
        query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": 100}, "Uploads on a page."),
    ],
    fails=(501,),
    curl="curl $URL/api/uploads",
)

_HEAD: Final = operation(
    "headUpload",
    _TAG,
    "How far an upload is",
    "`Upload-Offset` is durable: what is before it is never asked for again.",
    {200: answer("Headers.", headers=_HEADERS)},
    parameters=[_TUS],
    fails=(404, 412, 422, 501, 507),
    curl=f"curl -I $URL/api/uploads/{_EXAMPLE}",
)

_STATUS: Final = operation(
    "uploadStatus",
    _TAG,
    "The state of an upload",
    "`receiving`, `finishing`, `done` with the id of the blob, or `failed` with the reason.",
    {200: json_answer("The upload.", UploadInfo)},
    fails=(404, 501),
    curl=f"curl $URL/api/uploads/{_EXAMPLE}",
)

_PATCH: Final = operation(
    "appendToUpload",
    _TAG,
    "Go on with an upload",
    "The body goes on at `Upload-Offset`, which must be where the upload is: 409 otherwise, with the right one. If the"
    " connection breaks, what came is kept. The answer to the last byte has the blob; if that takes longer than"
    f" {FINISH_SECONDS:g} s it has the address of the state instead, and is 202 unless the client speaks tus.",
    {
        204: answer("The bytes are there, durably.", headers=_HEADERS),
        202: answer("Every byte is there, and the blob is being made.", headers={**_LOCATION, **_HEADERS}),
    },
    parameters=[
        _TUS,
        {**head("Upload-Offset", "Where the body begins.", _SIZE), "required": True},
        head("Upload-Length", "Bytes in all, if they were not said before.", _SIZE),
        _CHECKSUM,
    ],
    body={"required": True, "description": "The bytes.", "content": _OFFSET_BODY},
    fails=(404, 408, 409, 412, 413, 415, 422, 460, 501, 507),
    curl="curl -X PATCH -H 'Upload-Offset: 0' -H 'Content-Type: application/offset+octet-stream'"
    f" --data-binary @FILE $URL/api/uploads/{_EXAMPLE}",
)

_PUT: Final = operation(
    "putPart",
    _TAG,
    "Send a part",
    "The bytes that `Content-Range` names, in any order, also side by side. A part whose bytes are there is fine if"
    " they are the same, and 409 if not. The answer to the last one is as that of PATCH.",
    {
        204: answer("The part is there, durably.", headers=_HEADERS),
        202: answer("Every byte is there, and the blob is being made.", headers={**_LOCATION, **_HEADERS}),
    },
    parameters=[
        {
            **head("Content-Range", "`bytes FIRST-LAST/TOTAL`, both included; `*` for a total not known."),
            "required": True,
        },
        head("Content-Digest", "`sha-256=:BASE64:` of the part; else 422, and nothing of it is kept."),
    ],
    body={"required": True, "description": "The part.", "content": binary("application/octet-stream", "*/*")},
    fails=(404, 408, 409, 413, 422, 501, 507),
    curl=f"curl -X PUT -H 'Content-Range: bytes 0-4/5' --data-binary @FILE $URL/api/uploads/{_EXAMPLE}",
)

_OVERRIDE: Final = operation(
    "overrideUpload",
    _TAG,
    "PATCH or DELETE by POST",
    "For clients whose surroundings let nothing but GET and POST through.",
    {
        204: answer("As the method that was meant.", headers=_HEADERS),
        202: answer("Every byte is there, and the blob is being made.", headers={**_LOCATION, **_HEADERS}),
    },
    parameters=[
        _TUS,
        {
            **head("X-HTTP-Method-Override", "What is meant.", {"type": "string", "enum": ["PATCH", "DELETE"]}),
            "required": True,
        },
        head("Upload-Offset", "As for PATCH.", _SIZE),
        head("Upload-Length", "As for PATCH.", _SIZE),
        _CHECKSUM,
    ],
    body={"required": False, "description": "As for PATCH.", "content": _OFFSET_BODY},
    fails=(404, 408, 409, 412, 413, 415, 422, 460, 501, 507),
    curl=f"curl -X POST -H 'X-HTTP-Method-Override: DELETE' $URL/api/uploads/{_EXAMPLE}",
)

_DELETE: Final = operation(
    "terminateUpload",
    _TAG,
    "Give an upload up",
    "Everything it has goes. A blob that came of it stays.",
    {204: answer("It is gone.")},
    parameters=[_TUS],
    fails=(404, 412, 501),
    curl=f"curl -X DELETE $URL/api/uploads/{_EXAMPLE}",
)

_MISSING: Final = operation(
    "missingOfUpload",
    _TAG,
    "What has not arrived",
    "The gaps, in order; the last one has no size while the length is not known.",
    {200: json_answer("Gaps.", MissingRanges, {"upload": _EXAMPLE, "length": 5, "received": 3, "missing": [_GAP]})},
    fails=(404, 501),
    curl=f"curl $URL/api/uploads/{_EXAMPLE}/missing",
)

PATHS: Final[Json] = {
    "/api/uploads": {"options": _OPTIONS, "get": _LIST, "post": _POST},
    "/api/uploads/{upload_id}": {
        "parameters": [_UPLOAD_ID],
        "get": _STATUS,
        "head": _HEAD,
        "patch": _PATCH,
        "put": _PUT,
        "post": _OVERRIDE,
        "delete": _DELETE,
    },
    "/api/uploads/{upload_id}/missing": {"parameters": [_UPLOAD_ID], "get": _MISSING},
}
