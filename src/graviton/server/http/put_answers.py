"""What is said about a blob that was just stored, in the headers of an answer."""

from __future__ import annotations

from typing import NamedTuple

from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey
from graviton.ports.blobs import BlobWriteResult, IngestStats
from graviton.server.http.conditions import etag_of
from graviton.server.http.serving import attributes_field

__all__ = ["BlobDone", "blob_address", "put_headers"]


class BlobDone(NamedTuple):
    """A blob that is there now, and what that took; see `BlobWriteResult`."""

    key: BlobKey
    blocks: int
    chunker: str
    attributes: BinaryAttributes
    stats: IngestStats
    created: bool

    @classmethod
    def of(cls, result: BlobWriteResult) -> BlobDone:
        """That of a put."""
        return cls(result.key, result.blocks, result.chunker, result.attributes, result.stats, result.created)


def blob_address(key: BlobKey) -> str:
    """Where a blob is, as a path."""
    return f"/api/blobs/{key.text}"


def put_headers(done: BlobDone) -> dict[str, str]:
    """Where the blob is, and what storing it did."""
    stats = done.stats
    did = {
        "blocks": done.blocks,
        "cut-blocks": stats.blocks,
        "fresh-blocks": stats.fresh_blocks,
        "fresh-bytes": stats.fresh_bytes,
        "repaired-blocks": stats.repaired_blocks,
        "created": int(done.created),
    }
    return {
        "location": blob_address(done.key),
        "etag": etag_of(done.key.text),
        "x-graviton-blob-id": done.key.text,
        "x-graviton-chunker": done.chunker,
        "x-graviton-put": ", ".join(f"{name}={value}" for name, value in did.items()),
        **{name.decode(): value.decode() for name, value in attributes_field(done.attributes)},
    }
