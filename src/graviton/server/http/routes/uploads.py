"""`/api/uploads`: resumable uploads, by tus 1.0 or by parts in any order. docs/uploads.md.

A request that says `Tus-Resumable` is answered as tus asks for; without it the same routes serve whoever has curl.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Annotated, Any

from litestar import Request, Response, delete, get, post, put, route
from litestar.params import Parameter

from graviton.concurrency.finishing import finish_anyway
from graviton.errors import DigestMismatch, GravitonError, InvalidInput, NotFound
from graviton.server.http import tus
from graviton.server.http.asgi import Scope, header
from graviton.server.http.context import Context
from graviton.server.http.digests import claimed_digest
from graviton.server.http.errors import ChecksumMismatch, OtherOffset, Refused, UnsupportedMediaType
from graviton.server.http.put_answers import BlobDone
from graviton.server.http.upload import RequestBody, check_length
from graviton.server.http.upload_answers import (
    FINISH_SECONDS,
    MAX_LISTED,
    Gap,
    MissingRanges,
    UploadInfo,
    UploadPage,
    answered,
    creation,
    headers_of,
    upload_info,
)
from graviton.server.http.upload_wishes import wishes_of
from graviton.services.uploads import Checksum, ChecksumAlgo, UploadId, UploadStatus, parse_upload_id

__all__ = ["ROUTES"]

MAX_GAPS = 10_000
"""Gaps told at once, as many as an upload has parts."""


@route("/api/uploads", http_method=["OPTIONS"], status_code=204)
async def describe_uploads(context: Context) -> Response[None]:
    """The version and extensions of tus, and the largest upload. A store that takes none says so here too."""
    context.resumable()
    headers = {
        "tus-extension": ",".join(tus.EXTENSIONS),
        "tus-checksum-algorithm": ",".join(tus.ALGORITHMS),
        "tus-max-size": str(context.settings.max_blob_bytes),
        "allow": "GET, OPTIONS, POST",
    }
    return Response(None, status_code=204, headers=headers)


@post("/api/uploads")
async def create_upload(
    request: Request[Any, Any, Any], context: Context, domain: str = "", holder: str = ""
) -> Response[UploadInfo]:
    """A new upload; with bytes in the body, its first ones. Or, by `Upload-Concat`, one that is made of others."""
    scope: Scope = request.scope  # type: ignore[assignment]
    tus.check_version(header(scope, b"tus-resumable"))
    concat = _concat(scope)
    wishes = wishes_of(scope, context, domain, holder, concat)
    uploads = context.resumable()
    if concat is not None and concat.final_of is not None:
        most = context.settings.max_blob_bytes
        status = await uploads.concatenate(concat.final_of, wishes, max_bytes=most)
        return await _begun(context, status, _creation(context, status))
    if not _has_body(scope):
        status = await uploads.create(wishes)
        return await _begun(context, status, _creation(context, status))
    _check_type(scope)
    checksum = _checksum(scope)
    body = _body(request, context, 0, wishes.length)
    status = await uploads.create(wishes)
    return await _begun(context, status, _first_bytes(context, status, body, checksum))


@route("/api/uploads/{upload_id:str}", http_method=["HEAD"])
async def head_upload(request: Request[Any, Any, Any], context: Context, upload_id: str) -> Response[bytes]:
    """Where to go on, in headers."""
    scope: Scope = request.scope  # type: ignore[assignment]
    tus.check_version(header(scope, b"tus-resumable"))
    status = await context.resumable().status(parse_upload_id(upload_id))
    if status.error is not None:
        raise status.error
    return Response(b"", headers=headers_of(status) | {"cache-control": "no-store"})


@get("/api/uploads/{upload_id:str}")
async def status_of_upload(context: Context, upload_id: str) -> UploadInfo:
    """How far it is, and what came of it: `receiving`, `finishing`, `done` with the blob, or `failed`."""
    return upload_info(await context.resumable().status(parse_upload_id(upload_id)))


@get("/api/uploads/{upload_id:str}/missing")
async def missing_of_upload(context: Context, upload_id: str) -> MissingRanges:
    """The gaps, in order; where the length is not known yet, the last one has no size."""
    uploads = context.resumable()
    status = await uploads.status(parse_upload_id(upload_id))
    gaps = [Gap(span.start, span.length) for span in await uploads.missing(status.id)]
    if status.length is None and gaps:
        gaps[-1].size = None
    return MissingRanges(status.id, status.length, status.received, gaps[:MAX_GAPS])


@route("/api/uploads/{upload_id:str}", http_method=["PATCH"])
async def append_to_upload(request: Request[Any, Any, Any], context: Context, upload_id: str) -> Response[bytes]:
    """The body goes on at `Upload-Offset`. What arrives before a connection breaks is kept."""
    scope: Scope = request.scope  # type: ignore[assignment]
    tus.check_version(header(scope, b"tus-resumable"))
    _check_type(scope)
    offset = tus.length_of("Upload-Offset", _required(scope, "Upload-Offset"))
    checksum = _checksum(scope)
    id = parse_upload_id(upload_id)
    length = header(scope, b"upload-length")
    if length is not None:
        total = tus.length_of("Upload-Length", length)
        check_length(total, context.settings.max_blob_bytes)
        await context.resumable().declare_length(id, total)
    status = await context.resumable().status(id)
    if status.error is not None:
        raise status.error
    if status.made_of:
        raise Refused("an upload that is made of others takes no bytes", operation="upload", subject=id)
    if offset != status.offset:
        told = f"the upload goes on at {status.offset}, not at {offset}"
        raise OtherOffset(told, subject=id, hint="Go on at its Upload-Offset.", offset=status.offset)
    body = _body(request, context, offset, status.length)
    if not status.is_complete:  # else the answer to the last bytes was lost
        async with context.uploads:
            status = await _append(context, id, offset, body, checksum)
    return await _answered(context, scope, status)


@put("/api/uploads/{upload_id:str}")
async def put_part_of_upload(request: Request[Any, Any, Any], context: Context, upload_id: str) -> Response[bytes]:
    """The body is the part that `Content-Range` says, in any order with others."""
    scope: Scope = request.scope  # type: ignore[assignment]
    span, total = tus.part_of(_required(scope, "Content-Range"))
    id = parse_upload_id(upload_id)
    check_length(span.end if total is None else total, context.settings.max_blob_bytes)
    if total is not None:
        await context.resumable().declare_length(id, total)
    claimed = header(scope, b"content-digest")
    digest = None
    if claimed is not None:
        digest = Checksum(ChecksumAlgo.SHA256, claimed_digest("content-digest", claimed).raw)
    body = RequestBody(scope, request.receive, span.length, context.services.clock)
    async with context.uploads:
        status = await context.resumable().put_part(id, span, body, digest=digest)
    return await _answered(context, scope, status)


@delete("/api/uploads/{upload_id:str}")
async def terminate_upload(request: Request[Any, Any, Any], context: Context, upload_id: str) -> None:
    """Remove everything it has. A blob that came of it stays."""
    tus.check_version(header(request.scope, b"tus-resumable"))  # type: ignore[arg-type]
    id = parse_upload_id(upload_id)
    if not await context.resumable().terminate(id):
        raise NotFound(f"there is no upload {id}", operation="upload", subject=id)


@post("/api/uploads/{upload_id:str}")
async def override_upload(request: Request[Any, Any, Any], context: Context, upload_id: str) -> Response[bytes]:
    """For clients whose surroundings let nothing but POST through: `X-HTTP-Method-Override` says what is meant."""
    method = header(request.scope, b"x-http-method-override")  # type: ignore[arg-type]
    if method == "PATCH":
        return await append_to_upload.fn(request, context, upload_id)  # type: ignore[no-any-return]
    if method == "DELETE":
        await terminate_upload.fn(request, context, upload_id)
        return Response(b"", status_code=204)
    raise InvalidInput(
        "POST to an upload needs X-HTTP-Method-Override: PATCH, or DELETE", subject="x-http-method-override"
    )


@get("/api/uploads")
async def list_uploads(
    context: Context, after: str | None = None, limit: Annotated[int, Parameter(ge=1, le=MAX_LISTED)] = 100
) -> UploadPage:
    """Uploads that have not gone, in the order of their ids, some at a time."""
    page = await context.resumable().list_page(None if after is None else parse_upload_id(after), limit)
    return UploadPage([upload_info(one) for one in page.uploads], page.next, list(page.unreadable))


def _has_body(scope: Scope) -> bool:
    """By HTTP/2 a body needs neither of these two; its type says that there is one."""
    lengths = header(scope, b"content-length") not in (None, "0"), header(scope, b"transfer-encoding") is not None
    return any(lengths) or (header(scope, b"content-type") or "").startswith(tus.OFFSET_TYPE)


def _concat(scope: Scope) -> tus.Concat | None:
    text = header(scope, b"upload-concat")
    return None if text is None else tus.concat_of(text)


def _check_type(scope: Scope) -> None:
    if (header(scope, b"content-type") or "").partition(";")[0].strip().lower() != tus.OFFSET_TYPE:
        raise UnsupportedMediaType(
            f"the bytes of an upload come as {tus.OFFSET_TYPE}",
            subject="content-type",
            hint=f"Send Content-Type: {tus.OFFSET_TYPE}.",
        )


def _required(scope: Scope, name: str) -> str:
    text = header(scope, name.lower().encode())
    if text is None:
        raise InvalidInput(f"this request needs {name}", subject=name.lower())
    return text


def _checksum(scope: Scope) -> Checksum | None:
    text = header(scope, b"upload-checksum")
    return None if text is None else tus.checksum_of(text)


def _body(request: Request[Any, Any, Any], context: Context, offset: int, length: int | None) -> RequestBody:
    """The body, of at most what is missing of the whole."""
    most = (context.settings.max_blob_bytes if length is None else length) - offset
    return RequestBody(request.scope, request.receive, max(0, most), context.services.clock)  # type: ignore[arg-type]


async def _append(
    context: Context, id: UploadId, offset: int, body: AsyncIterator[bytes], checksum: Checksum | None
) -> UploadStatus:
    try:
        return await context.resumable().append(id, offset, body, checksum=checksum)
    except DigestMismatch as error:
        if checksum is None:
            raise
        raise ChecksumMismatch(error.message, subject=id) from error


async def _first_bytes(
    context: Context, status: UploadStatus, body: RequestBody, checksum: Checksum | None
) -> Response[UploadInfo]:
    async with context.uploads:
        status = await _append(context, status.id, 0, body, checksum)
    return await _creation(context, status)


async def _begun(
    context: Context, status: UploadStatus, rest: Coroutine[Any, Any, Response[UploadInfo]]
) -> Response[UploadInfo]:
    """The answer to a request that began an upload. If that is an error nobody is told where the upload is: it would
    only take room until it expires."""
    try:
        return await rest
    except BaseException:
        with suppress(GravitonError):  # then it does expire
            await finish_anyway(context.resumable().terminate(status.id))
        raise


async def _creation(context: Context, status: UploadStatus) -> Response[UploadInfo]:
    status = await _finished(context, status)
    return creation(status, await _blob_of(context, status))


async def _answered(context: Context, scope: Scope, status: UploadStatus) -> Response[bytes]:
    status = await _finished(context, status)
    return answered(scope, status, await _blob_of(context, status))


async def _blob_of(context: Context, status: UploadStatus) -> BlobDone | None:
    """What came of an upload that is done; None otherwise, and if the blob was deleted since."""
    if status.key is None or status.stats is None:
        return None
    found = await context.services.store.stat(status.key, status.domain)
    if found is None:
        return None
    return BlobDone(status.key, found.blocks, found.chunker, found.attributes, status.stats, status.created)


async def _finished(context: Context, status: UploadStatus) -> UploadStatus:
    """The upload, whose blob was waited for if every byte is there."""
    if status.is_complete and not status.is_partial and status.key is None and status.error is None:
        return await context.resumable().finish(status.id, FINISH_SECONDS)
    return status


ROUTES = [
    describe_uploads,
    create_upload,
    list_uploads,
    head_upload,
    status_of_upload,
    missing_of_upload,
    append_to_upload,
    put_part_of_upload,
    override_upload,
    terminate_upload,
]
