"""What an upload is for, in the headers of the request that begins it."""

from __future__ import annotations

from graviton.core.clock import Clock
from graviton.core.policies import BlobWritePlan
from graviton.errors import InvalidInput
from graviton.server.http import tus
from graviton.server.http.asgi import Scope, header
from graviton.server.http.context import Context
from graviton.server.http.digests import claimed_digest
from graviton.server.http.plans import expected_id, plan_of
from graviton.server.http.upload import check_length
from graviton.services.uploads import Checksum, ChecksumAlgo, UploadWishes

__all__ = ["wishes_of"]


def wishes_of(scope: Scope, context: Context, domain: str, holder: str, concat: tus.Concat | None) -> UploadWishes:
    """The whole, or the piece, that the headers of a request announce. Raises InvalidInput, LimitExceeded."""
    is_final = concat is not None and concat.final_of is not None
    length = header(scope, b"upload-length")
    is_deferred = tus.is_deferred(header(scope, b"upload-defer-length"))
    if not is_final and is_deferred is (length is not None):
        raise InvalidInput(
            "an upload begins with its Upload-Length, or with Upload-Defer-Length: 1 if it will be said later",
            subject="upload-length",
            hint="Send one of the two.",
        )
    size = None if length is None else tus.length_of("Upload-Length", length)
    if size is not None:
        check_length(size, context.settings.max_blob_bytes)
    metadata = header(scope, b"upload-metadata") or ""
    repr_digest = header(scope, b"repr-digest")
    digests: tuple[Checksum, ...] = ()
    if repr_digest is not None:
        digests = (Checksum(ChecksumAlgo.SHA256, claimed_digest("repr-digest", repr_digest).raw),)
    clock = context.services.clock
    return UploadWishes(
        size,
        _plan(scope, metadata, clock, domain, holder),
        expected_id(scope),
        digests,
        metadata,
        is_partial=concat is not None and not is_final,
        lifetime_seconds=None,
    )


def _plan(scope: Scope, metadata: str, clock: Clock, domain: str, holder: str) -> BlobWritePlan:
    """What the headers ask for; the type of this request's body says nothing about the whole."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    plan = plan_of({**scope, "headers": headers}, clock, domain, holder)
    said = plan.attributes.advertised
    told = {name: one for name, one in tus.attributes_of(tus.metadata_of(metadata)).items() if name not in said}
    attributes = plan.attributes.advertise(told, at_ns=clock.now_ns())
    return plan.replace(attributes=attributes)
