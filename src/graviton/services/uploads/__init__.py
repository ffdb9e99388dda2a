"""Resumable uploads: the service behind `/api/uploads`, over ports only. docs/uploads.md is its design."""

from graviton.services.uploads.uploads import Uploads
from graviton.services.uploads.values import (
    Checksum,
    ChecksumAlgo,
    Interrupted,
    Swept,
    UploadId,
    UploadState,
    UploadStatus,
    UploadWishes,
    parse_upload_id,
)

__all__ = [
    "Checksum",
    "ChecksumAlgo",
    "Interrupted",
    "Swept",
    "UploadId",
    "UploadState",
    "UploadStatus",
    "UploadWishes",
    "Uploads",
    "parse_upload_id",
]
