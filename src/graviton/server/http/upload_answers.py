"""What is said about an upload, in the headers of an answer and as JSON."""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

import msgspec
from litestar import Response

from graviton.server.http import tus
from graviton.server.http.asgi import Scope, header
from graviton.server.http.errors import told
from graviton.server.http.put_answers import BlobDone, put_headers
from graviton.server.http.times import time_text
from graviton.services.uploads import UploadId, UploadState, UploadStatus

__all__ = [
    "FINISH_SECONDS",
    "MAX_LISTED",
    "Gap",
    "MissingRanges",
    "UploadInfo",
    "UploadPage",
    "answered",
    "creation",
    "headers_of",
    "upload_address",
    "upload_info",
]

MAX_LISTED: Final = 1000
"""Uploads on one page: half a megabyte of JSON."""

FINISH_SECONDS: Final = 10.0
"""How long the request with the last byte waits for the blob; proxies wait 30 s or longer for an answer."""

_SECOND: Final = 1_000_000_000


class UploadInfo(msgspec.Struct):
    """A resumable upload."""

    upload: str
    state: str
    """receiving, finishing, done or failed."""
    offset: int
    """Bytes there without a gap from the beginning: where to go on."""
    length: int | None
    received: int
    """Bytes there, in whatever places."""
    created: str
    expires: str
    partial: bool
    blob: str | None
    """Id of the blob, once it is done."""
    error: dict[str, str] | None
    """Why it failed."""


class UploadPage(msgspec.Struct):
    """Some uploads, in the order of their ids."""

    uploads: list[UploadInfo]
    next: str | None
    """What to give as `after` for those that follow; null at the end."""
    unreadable: list[str]
    """Ids of uploads among them whose rows are damaged: DELETE removes them."""


class Gap(msgspec.Struct):
    """Bytes that have not come."""

    offset: int
    size: int | None
    """Null where the length of the whole is not known."""


class MissingRanges(msgspec.Struct):
    """What an upload lacks."""

    upload: str
    length: int | None
    received: int
    missing: list[Gap]


def upload_info(status: UploadStatus) -> UploadInfo:
    """An upload as JSON shows it."""
    return UploadInfo(
        upload=status.id,
        state=status.state.value,
        offset=status.offset,
        length=status.length,
        received=status.received,
        created=time_text(status.created_at_ns),
        expires=time_text(status.expires_at_ns),
        partial=status.is_partial,
        blob=None if status.key is None else status.key.text,
        error=None if status.error is None else told(status.error),
    )


def upload_address(id: UploadId) -> str:
    """Where an upload is, as a path."""
    return f"{tus.UPLOADS}/{id}"


def creation(status: UploadStatus, blob: BlobDone | None) -> Response[UploadInfo]:
    """The answer to a request that began an upload, however far it came. Raises what made it fail."""
    if status.error is not None:
        raise status.error
    headers = {**_blob_headers(blob), "location": upload_address(status.id), **headers_of(status)}
    return Response(upload_info(status), status_code=201, headers=headers)


def answered(scope: Scope, status: UploadStatus, blob: BlobDone | None) -> Response[bytes]:
    """The answer to bytes that were taken. While the blob is being made it is 202 with the address of the state; tus
    knows nothing but 204, and has a header for it. Raises what made the upload fail."""
    if status.error is not None:
        raise status.error
    headers = _blob_headers(blob) | headers_of(status)
    if status.state is not UploadState.FINISHING:
        return Response(b"", status_code=204, headers=headers)
    headers["location"] = upload_address(status.id)
    by_tus = header(scope, b"tus-resumable") is not None
    return Response(b"", status_code=204 if by_tus else 202, headers=headers)


def headers_of(status: UploadStatus) -> dict[str, str]:
    """Offset, length, expiry, what the client left, and the blob once there is one."""
    headers = {"x-graviton-upload-state": status.state.value}
    if not status.made_of or status.state is UploadState.DONE:
        headers["upload-offset"] = str(status.offset)
    if status.length is None:
        headers["upload-defer-length"] = "1"
    else:
        headers["upload-length"] = str(status.length)
    if status.metadata:
        headers["upload-metadata"] = status.metadata
    concat = tus.concat_text(status.is_partial, status.made_of)
    if concat is not None:
        headers["upload-concat"] = concat
    if status.key is None:
        headers["upload-expires"] = formatdate(status.expires_at_ns // _SECOND, usegmt=True)
    else:
        headers["x-graviton-blob-id"] = status.key.text
    return headers


def _blob_headers(blob: BlobDone | None) -> dict[str, str]:
    return {} if blob is None else put_headers(blob)
