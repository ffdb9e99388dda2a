"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload), and Content-Range of a request.

Pure functions, bounded in what they look at; whatever is malformed raises InvalidInput naming the header.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from graviton.core.attribute_values import check_value
from graviton.core.attributes import FILE_NAME, MIME, custom_name
from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, LimitExceeded, PreconditionFailed
from graviton.services.uploads import Checksum, ChecksumAlgo, UploadId, parse_upload_id
from graviton.services.uploads.values import MAX_CONCATENATED, MAX_METADATA_BYTES

__all__ = [
    "ALGORITHMS",
    "EXTENSIONS",
    "OFFSET_TYPE",
    "UPLOADS",
    "VERSION",
    "Concat",
    "attributes_of",
    "check_version",
    "checksum_of",
    "concat_of",
    "concat_text",
    "is_deferred",
    "length_of",
    "metadata_of",
    "part_of",
]

VERSION: Final = "1.0.0"

EXTENSIONS: Final = (
    "creation",
    "creation-defer-length",
    "creation-with-upload",
    "expiration",
    "checksum",
    "termination",
    "concatenation",
)

ALGORITHMS: Final = tuple(algo.value for algo in ChecksumAlgo)

OFFSET_TYPE: Final = "application/offset+octet-stream"

UPLOADS: Final = "/api/uploads"
"""Where uploads are; an upload's own address is below."""

_MAX_DIGITS: Final = 19
"""MAX_SIZE, 2**63 - 1, has as many."""

_KEY = re.compile(r"[!-+\--~]+", re.ASCII)  # printable, without blank and comma
_CONTENT_RANGE = re.compile(r"bytes[ \t]+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)


def check_version(text: str | None) -> None:
    """Raise PreconditionFailed for another version of tus. Without the header a request is a plain one of ours."""
    if text is not None and text != VERSION:
        raise PreconditionFailed(
            f"this server speaks tus {VERSION}", subject="tus-resumable", hint=f"Send Tus-Resumable: {VERSION}."
        )


def length_of(name: str, text: str) -> int:
    """A number of bytes. Raises InvalidInput."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS) or int(text) > MAX_SIZE:
        raise InvalidInput(f"{name} is no number of bytes from 0 to {MAX_SIZE}", subject=name)
    return int(text)


def is_deferred(text: str | None) -> bool:
    """Whether an `Upload-Defer-Length` says that the length comes later. Raises InvalidInput."""
    if text not in (None, "1"):
        raise InvalidInput("Upload-Defer-Length is 1, or left out", subject="upload-defer-length")
    return text is not None


def metadata_of(text: str) -> dict[str, bytes]:
    """The pairs of an `Upload-Metadata`: names, and values of which anything may be in base64; without one it is empty.
    Raises InvalidInput."""
    if len(text) > MAX_METADATA_BYTES:
        raise InvalidInput(f"Upload-Metadata has at most {MAX_METADATA_BYTES} bytes", subject="upload-metadata")
    found: dict[str, bytes] = {}
    for pair in text.split(",") if text.strip(" ") else ():
        key, _, value = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key) or key in found:
            raise _bad_metadata()
        try:
            found[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _bad_metadata() from None
    return found


def _bad_metadata() -> InvalidInput:
    return InvalidInput(
        "Upload-Metadata is malformed",
        subject="upload-metadata",
        hint="Write NAME BASE64 pairs with commas between them, each name once.",
    )


_NAMES: Final = {"filename": FILE_NAME, "name": FILE_NAME, "filetype": MIME, "type": MIME, "content-type": MIME}
"""What clients call these two: tus-js-client's, Uppy's and tuspy's documents."""


def attributes_of(metadata: dict[str, bytes]) -> dict[str, str]:
    """Attributes to be advertised: the file's name and type by the names that clients use for them, and of all others
    those that are an attribute's by name and value. tus leaves to the server what it does with them; all are handed
    back as they came."""
    values: dict[str, str] = {}
    for key, raw in metadata.items():
        try:
            text = raw.decode("utf-8")
            name = _NAMES.get(key.lower()) or custom_name(key)
            if name == FILE_NAME:
                text = re.split(r"[/\\]", text)[-1]
            check_value(name, text)
        except (UnicodeDecodeError, InvalidInput):
            continue
        if text:
            values.setdefault(name, text)
    return values


def checksum_of(text: str) -> Checksum:
    """An `Upload-Checksum`: an algorithm and a digest in base64. Raises InvalidInput."""
    algo, _, value = text.strip(" ").partition(" ")
    try:
        found = Checksum(ChecksumAlgo(algo), base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidInput(
            "Upload-Checksum is malformed, or its algorithm is not known here",
            subject="upload-checksum",
            hint=f"Write ALGORITHM BASE64, with one of {', '.join(ALGORITHMS)}.",
        ) from None
    found.check()
    return found


class Concat(NamedTuple):
    """An `Upload-Concat`: a piece, or all pieces of one whole."""

    final_of: tuple[UploadId, ...] | None = None
    """The partial uploads in their order; None for a partial upload itself."""


def concat_of(text: str) -> Concat:
    """Raises InvalidInput, LimitExceeded. Addresses of other hosts count by their path: behind a proxy nobody knows
    what he is called."""
    kind, semicolon, rest = text.strip(" ").partition(";")
    if kind == "partial" and not semicolon:
        return Concat()
    addresses = rest.split()
    if kind != "final" or not addresses:
        raise InvalidInput(
            "Upload-Concat is malformed",
            subject="upload-concat",
            hint=f"Write partial, or final;{UPLOADS}/ID {UPLOADS}/ID …",
        )
    if len(addresses) > MAX_CONCATENATED:
        raise LimitExceeded(f"an upload is made of at most {MAX_CONCATENATED} others", subject="upload-concat")
    return Concat(tuple(_upload_at(address) for address in addresses))


def _upload_at(address: str) -> UploadId:
    try:
        path = urlsplit(address).path
    except ValueError:
        path = ""
    before, _, last = path.rpartition("/")
    if not before.endswith(UPLOADS):
        raise InvalidInput(f"{address[:80]!r} is not the address of an upload", subject="upload-concat")
    return parse_upload_id(last)


def concat_text(is_partial: bool, made_of: Sequence[UploadId]) -> str | None:
    """The header that says what an upload is a piece of, or made of."""
    if made_of:
        return "final;" + " ".join(f"{UPLOADS}/{one}" for one in made_of)
    return "partial" if is_partial else None


def part_of(text: str) -> tuple[Span, int | None]:
    """The `Content-Range` of a part: its bytes, and how many there are in all (None for `*`). Raises InvalidInput."""
    found = _CONTENT_RANGE.fullmatch(text.strip(" \t"))
    if found is None:
        raise _bad_range()
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if not first <= last < MAX_SIZE or (total is not None and not last < total <= MAX_SIZE):
        raise _bad_range()
    return Span(first, last + 1), total


def _bad_range() -> InvalidInput:
    return InvalidInput(
        "Content-Range is malformed, or does not lie within the whole",
        subject="content-range",
        hint="Write bytes FIRST-LAST/TOTAL, both ends included, or * for a total that is not known yet.",
    )
