"""`S3Api`: the objects and the multipart uploads of one bucket; one method per kind of request, as in `S3Objects`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from graviton.backends.objectstore._bodies import Body
from graviton.backends.objectstore._s3_calls import member
from graviton.backends.objectstore._s3_objects import (
    Found,
    Head,
    Piece,
    S3Objects,
    answered_ns,
    changed,
    checksum,
    nanoseconds,
    stands_still,
)
from graviton.backends.objectstore.clients import encryption_arguments
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.calls import CancelFlag
from graviton.core.ranges import Span
from graviton.errors import NotFound, PreconditionFailed

__all__ = ["Found", "Head", "Part", "Piece", "S3Api", "Upload", "changed"]

_CHECKSUM: Final = "CRC32"
"""Of every body that goes up, in its header: the server compares it before anything becomes visible."""


class Upload(NamedTuple):
    """A multipart upload that is open."""

    key: str
    id: str
    begun_ns: int = 0
    """In whole seconds of the server, as it lists it; 0: not known."""


class Part(NamedTuple):
    """A part of an upload that the server has."""

    number: int
    """From 1 on."""
    etag: str
    checksum: str
    """In base64; empty of a copy."""


class S3Api(S3Objects):
    """Requests about objects and uploads in the bucket of `config`."""

    async def create_upload(
        self,
        key: str,
        subject: str,
        metadata: Mapping[str, str],
        opened: list[Upload],
        *,
        content_type: str = "",
        of_copies: bool = False,
        tried: Tried | None = None,
    ) -> None:
        """Begin an upload and append it to `opened`: also when the caller was cancelled meanwhile. Of parts that are
        copied nobody here knows a checksum; MinIO refuses them where checksums are announced."""
        arguments = {"Key": key, "Metadata": dict(metadata), **encryption_arguments(self.config.encryption)}
        if content_type:
            arguments["ContentType"] = content_type
        if not of_copies:
            arguments["ChecksumAlgorithm"] = _CHECKSUM

        def create(client: Any, flag: CancelFlag) -> None:
            told = client.create_multipart_upload(Bucket=self.config.bucket, **arguments)
            opened.append(Upload(key, member(told, "UploadId", "create_upload", subject)))

        await self.on_thread("create_upload", subject, create, tried=tried)

    async def put_part(self, upload: Upload, number: int, data: memoryview, subject: str) -> Part:
        """Add a part. Raises NotFound if the upload is not open."""

        def put(client: Any, flag: CancelFlag) -> Part:
            sum_of_data = checksum(data)
            with Body(data, flag) as body:
                told = client.upload_part(
                    Bucket=self.config.bucket,
                    **self._of(upload),
                    PartNumber=number,
                    Body=body,
                    ContentLength=len(data),
                    ChecksumCRC32=sum_of_data,
                )
            return Part(number, member(told, "ETag", "put_part", subject), sum_of_data)

        return await self.on_thread("put_part", subject, put, size=len(data))

    async def copy_part(self, upload: Upload, number: int, source: str, span: Span, etag: str, subject: str) -> Part:
        """Add a part from an object of the bucket. Raises Conflict if that has another ETag, and NotFound if it or the
        upload is not there."""
        try:
            told = await self.call(
                "copy_part",
                subject,
                "upload_part_copy",
                needs=("CopyPartResult.ETag",),
                **self._of(upload),
                PartNumber=number,
                CopySource={"Bucket": self.config.bucket, "Key": source},
                CopySourceRange=f"bytes={span.start}-{span.end - 1}",
                CopySourceIfMatch=etag,
            )
        except PreconditionFailed as error:
            raise changed(subject) from error
        return Part(number, told["CopyPartResult"]["ETag"], "")

    async def complete_upload(self, upload: Upload, parts: list[Part], subject: str, tried: Tried) -> int:
        """Make an object of all parts; see `answered_ns`. Raises NotFound if the upload is not open."""
        listed = []
        for part in sorted(parts):
            one: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
            if part.checksum:
                one[f"Checksum{_CHECKSUM}"] = part.checksum
            listed.append(one)
        arguments = {**self._of(upload), "MultipartUpload": {"Parts": listed}}
        needs = ("ETag",)
        return answered_ns(
            await self.call(
                "complete_upload", subject, "complete_multipart_upload", needs=needs, tried=tried, **arguments
            )
        )

    async def abort_upload(self, upload: Upload, subject: str) -> None:
        """Remove an upload and its parts, whether it is open or not. It may be cut off: late, it hits nothing else."""
        try:
            await self.call("abort_upload", subject, "abort_multipart_upload", reads=True, **self._of(upload))
        except NotFound:
            pass

    async def uploads(self, prefix: str, subject: str) -> list[Upload]:
        """Open uploads whose key begins with `prefix`."""
        arguments: dict[str, Any] = {"Bucket": self.config.bucket, "Prefix": prefix}

        def page(client: Any, flag: CancelFlag) -> tuple[list[Upload], dict[str, str]]:
            told = client.list_multipart_uploads(**arguments)
            member(told, "Bucket", "list_uploads", subject)
            markers = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
            if not told.get("IsTruncated"):
                markers = {}
            following = {mine: member(told, its, "list_uploads", subject) for mine, its in markers.items()}
            return [_upload(one, subject) for one in told.get("Uploads", ())], following

        found: dict[tuple[str, str], Upload] = {}
        while True:
            try:
                more, following = await self.on_thread("list_uploads", subject, page, reads=True)
            except NotFound:
                more, following = [], {}  # some servers say so of a bucket that has none
            before = len(found)
            found |= {(one.key, one.id): one for one in more}
            if not following:
                return list(found.values())
            if len(found) == before:
                raise stands_still("list_uploads", subject)
            arguments |= following

    async def has_parts(self, upload: Upload, subject: str) -> bool | None:
        """Whether an open upload has any part yet; None if it is not open."""
        try:
            told = await self.call(
                "list_parts",
                subject,
                "list_parts",
                needs=("UploadId",),
                reads=True,
                **self._of(upload),
                MaxParts=1,
            )
        except NotFound:
            return None
        return bool(told.get("Parts"))

    @staticmethod
    def _of(upload: Upload) -> dict[str, Any]:
        return {"Key": upload.key, "UploadId": upload.id}


def _upload(told: Mapping[str, Any], subject: str) -> Upload:
    key, id = (member(told, name, "list_uploads", subject) for name in ("Key", "UploadId"))
    return Upload(key, id, nanoseconds(told["Initiated"]) if "Initiated" in told else 0)
