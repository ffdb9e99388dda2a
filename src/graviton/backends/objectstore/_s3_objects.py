"""`S3Objects`: the objects of one bucket; one method per kind of request.

Keys are whole keys; `subject` is what a request is about, for people. Errors are those of docs/object-storage.md.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import closing
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

from graviton.backends.objectstore._bodies import Body, read_body
from graviton.backends.objectstore._driver_answers import is_numbered
from graviton.backends.objectstore._s3_calls import S3Calls, member
from graviton.backends.objectstore.clients import encryption_arguments
from graviton.backends.objectstore.errors import no_server
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.calls import CancelFlag
from graviton.core.ranges import Span
from graviton.errors import (
    Conflict,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    Retry,
    Unavailable,
    Unsupported,
)

__all__ = ["Found", "Head", "Piece", "S3Objects", "answered_ns", "changed", "checksum", "nanoseconds", "stands_still"]

_NO_CONTENT: Final = 204
"""The status of an answer to a delete."""

_LOOKS: Final = 2
"""How often an object is looked for that a HEAD does not find and a listing does: it may just have been made."""

_LIST_PAGE: Final = 1000
"""Names per request: what S3 gives at most."""


_EMPTY_PAGES: Final = 1000
"""How many pages without a name may follow each other: a server may send some where much was deleted."""


class Head(NamedTuple):
    """An object without its bytes."""

    size: int
    modified_ns: int
    """Whole seconds."""
    etag: str
    metadata: Mapping[str, str]
    """Names in lower case: they are headers, which servers in Go write with capitals."""
    content_type: str


class Found(NamedTuple):
    """An object as a listing has it."""

    key: str
    size: int
    modified_ns: int
    """Whole seconds, as `Head`."""


class Piece(NamedTuple):
    """Some bytes of an object."""

    data: bytes
    size: int
    """Of the whole object."""
    etag: str
    age_seconds: float = 0.0
    """Since the object was written, by the server's clock alone, in whole seconds; 0 if it does not tell."""


class S3Objects(S3Calls):
    """Requests about objects in the bucket of `config`."""

    async def head(self, key: str, subject: str, is_etag: Callable[[str], object] = bool) -> Head | None:
        """An object without its bytes; None if there is none. An answer whose ETag `is_etag` does not take is none.
        Raises ConfigError if there is no bucket."""

        def look(client: Any, flag: CancelFlag) -> dict[str, Any]:
            told: dict[str, Any] = client.head_object(Bucket=self.config.bucket, Key=key)
            for name in ("LastModified", "ContentLength"):
                member(told, name, "head", subject)
            if not is_etag(member(told, "ETag", "head", subject)):
                raise no_server("head", subject)
            return told

        for _ in range(_LOOKS):
            try:
                told = await self.on_thread("head", subject, look, reads=True)
            except NotFound as error:
                if await self._is_absent(key, subject, error):
                    return None
            else:
                self.bucket_seen = True
                return _head(told)
        raise no_server("head", subject)  # its listing says that the object is there

    async def _is_absent(self, key: str, subject: str, error: NotFound) -> bool:
        """Whether a HEAD that was answered with `error` is to be believed: its answer tells neither whether there is a
        bucket, nor, unless it has a number of S3, whether it comes from S3."""
        if not is_numbered(error):
            told = await self.call(
                "list", subject, "list_objects_v2", needs=("Name",), reads=True, Prefix=key, MaxKeys=1
            )
            self.bucket_seen = True
            return all(one.get("Key") != key for one in told.get("Contents", ()))
        if not self.bucket_seen:
            await self.check_bucket()
        return True

    async def get(self, key: str, subject: str, span: Span, etag: str = "") -> Piece:
        """The bytes of a span that is not empty, or those of it that the object has. Raises NotFound,
        RangeNotSatisfiable if it has none, and Conflict if it has another ETag than the one given."""
        arguments = {"Key": key, "Range": f"bytes={span.start}-{span.end - 1}"}
        if etag:
            arguments["IfMatch"] = etag

        def get(client: Any, flag: CancelFlag) -> Piece:
            told = client.get_object(Bucket=self.config.bucket, **arguments)
            with closing(
                told["Body"]
            ) as body:  # its own block gives the connection, which checks and translates nothing
                found: str = member(told, "ETag", "get", subject)
                size = _size_of_object(told, span, subject)
                if etag and found != etag:  # of a server that ignores the condition
                    raise PreconditionFailed(f"{subject} has another ETag", operation="get")
                wanted = min(span.end, size) - span.start
                data = read_body(body, flag, max(wanted, 0), self.config.request_seconds)
            if len(data) != wanted:
                arrived = f"{len(data)}" if len(data) < wanted else "more than all"
                raise Unavailable(f"{arrived} of {wanted} bytes of {subject} arrived", operation="get")
            return Piece(data, size, found, _age_seconds(told))

        try:
            return await self.on_thread(
                "get", subject, get, reads=True, size=span.length, moved=lambda piece: len(piece.data)
            )
        except PreconditionFailed as error:
            raise changed(subject) from error
        except RangeNotSatisfiable as error:
            if etag:  # who knows one has seen that there are such bytes
                raise changed(subject) from error
            raise

    async def put(
        self,
        key: str,
        subject: str,
        data: memoryview,
        metadata: Mapping[str, str] | None = None,
        *,
        is_new: bool = False,
        tried: Tried | None = None,
    ) -> int:
        """Create or replace an object in one request; see `answered_ns`. If it `is_new`, raises PreconditionFailed
        where there is one, and Unsupported if the server takes no conditions; some replace it without a word."""
        arguments = {"Key": key, "Metadata": dict(metadata or {}), **encryption_arguments(self.config.encryption)}
        if is_new:
            arguments["IfNoneMatch"] = "*"

        def put(client: Any, flag: CancelFlag) -> int:
            sum_of_data = checksum(data)
            with Body(data, flag) as body:
                told = client.put_object(Bucket=self.config.bucket, Body=body, ChecksumCRC32=sum_of_data, **arguments)
            member(told, "ETag", "put", subject)
            return answered_ns(told)

        return await self.on_thread("put", subject, put, size=len(data), tried=tried)

    async def copy(self, key: str, to: str, subject: str, tried: Tried | None = None, etag: str = "") -> int:
        """Copy an object, and its metadata, inside the server; see `answered_ns`. Raises NotFound, and Conflict if it
        has another ETag than the one given, where the server looks at that."""
        source = {"Bucket": self.config.bucket, "Key": key}
        arguments = {"Key": to, "CopySource": source, **encryption_arguments(self.config.encryption)}
        if etag:
            arguments["CopySourceIfMatch"] = etag
        needs = ("CopyObjectResult.ETag",)
        try:
            told = await self.call("copy", subject, "copy_object", needs=needs, tried=tried, **arguments)
        except PreconditionFailed as error:
            raise changed(subject) from error
        return answered_ns(told)

    async def delete(self, key: str, subject: str, tried: Tried | None = None) -> None:
        """Remove an object, whether it is there or not."""

        def delete(client: Any, flag: CancelFlag) -> None:
            told = client.delete_object(Bucket=self.config.bucket, Key=key)["ResponseMetadata"]
            if told["HTTPStatusCode"] != _NO_CONTENT and told["HTTPHeaders"].get("content-length") != "0":
                raise no_server("delete", subject)  # nobody answers with a page that something was deleted

        try:
            await self.on_thread("delete", subject, delete, tried=tried)
        except NotFound:
            pass  # some servers say so

    async def objects(self, prefix: str, subject: str, after: str = "") -> AsyncGenerator[Found, None]:
        """Objects whose key begins with `prefix`, in the order of the UTF-8 bytes of their keys; those after the key
        `after` only."""
        arguments: dict[str, Any] = {"Bucket": self.config.bucket, "Prefix": prefix, "MaxKeys": _LIST_PAGE}
        if after:
            arguments["StartAfter"] = after

        def page(client: Any, flag: CancelFlag) -> tuple[list[Found], str]:
            told = client.list_objects_v2(**arguments)
            member(told, "Name", "list", subject)
            found = [_found(one, subject) for one in told.get("Contents", ())]
            return found, member(told, "NextContinuationToken", "list", subject) if told.get("IsTruncated") else ""

        last, token, empty = "", "", 0
        while True:
            found, following = await self.on_thread("list", subject, page, reads=True)
            before = last
            for one in found:
                if one.key != last:  # rclone lists a new object twice after puts of it at the same moment
                    last = one.key
                    yield one
            if not following:
                return
            empty = 0 if found else empty + 1
            is_back = found and last.encode() <= before.encode()
            if following == token or is_back or empty > _EMPTY_PAGES:
                raise stands_still("list", subject)
            token = arguments["ContinuationToken"] = following


def changed(subject: str) -> Conflict:
    """The error of who finds another object than the one he began with."""
    return Conflict(
        f"{subject} was replaced meanwhile", operation="get", subject=subject, hint="Begin again with the new one."
    )


def answered_ns(told: Mapping[str, Any]) -> int:
    """When the server gave an answer, in whole seconds of its clock, as what it wrote then has; 0 if it tells none."""
    try:
        return nanoseconds(parsedate_to_datetime(told["ResponseMetadata"]["HTTPHeaders"]["date"]))
    except (KeyError, ValueError):
        return 0


def _age_seconds(told: Mapping[str, Any]) -> float:
    modified = told.get("LastModified")
    return 0.0 if modified is None else max(0.0, (answered_ns(told) - nanoseconds(modified)) / 1e9)


def stands_still(operation: str, subject: str) -> Unavailable:
    """The error of who is told, again and again, that there is more of a listing, and gets what he had."""
    return Unavailable(
        f"the server's list of {subject} does not go on after a page",
        operation=operation,
        subject=subject,
        hint="Its listings are broken: look at the server, and what is between.",
        retry=Retry.PERMANENT,
    )


def _head(told: Mapping[str, Any]) -> Head:
    return Head(
        told["ContentLength"],
        nanoseconds(told["LastModified"]),
        told["ETag"],
        {name.lower(): value for name, value in told.get("Metadata", {}).items()},
        told.get("ContentType", ""),
    )


def _found(told: Mapping[str, Any], subject: str) -> Found:
    key, size, modified = (member(told, name, "list", subject) for name in ("Key", "Size", "LastModified"))
    return Found(key, size, nanoseconds(modified))


def _size_of_object(told: Mapping[str, Any], span: Span, subject: str) -> int:
    """The size that the answer to a get of `span` tells. Raises Unsupported if it is another span's."""
    sent = told.get("ContentRange", "")
    if not sent:  # the whole object
        size: int = member(told, "ContentLength", "get", subject)
        if span.start == 0 and size <= span.end:
            return size
        raise Unsupported(f"the server gives no ranges, only all {size} bytes of {subject}", operation="get")
    first, _, rest = sent.removeprefix("bytes ").partition("-")
    last, _, whole = rest.partition("/")
    if not (first.isdigit() and last.isdigit() and whole.isdigit() and int(first) == span.start):
        raise Unavailable(f"another span of {subject} than {span} arrived: {sent[:80]}", operation="get")
    return int(whole)


def checksum(data: memoryview) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def nanoseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000_000
